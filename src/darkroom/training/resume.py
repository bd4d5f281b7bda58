"""The states of trainings between epochs. With them, a training that was killed goes on and ends in the same bytes."""

import hashlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkroom.system.files import write_bytes
from darkroom.system.lock import LOCK

FOLDER = Path(".darkroom/state")  # ignored by Git and unknown to DVC; has a folder per stage
KEPT = 4  # states per stage; one of the default fine-tuned model takes 55 MB


def key(*parts: bytes | np.ndarray | Mapping[str, Any]) -> str:
    """A digest of `parts`, which decide how a training goes, and of the loaded modules of darkroom."""
    digest = hashlib.sha256()
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "darkroom")
    code = [Path(str(sys.modules[name].__file__)).read_bytes() for name in loaded]
    for part in (*parts, *code):
        data = json.dumps(part, sort_keys=True).encode() if isinstance(part, Mapping) else part
        view = memoryview(data)  # type: ignore[arg-type]  # the bytes of an array, without a copy
        digest.update(view.nbytes.to_bytes(8, "big"))
        digest.update(view)
    return digest.hexdigest()


def path(stage: str, key_of_training: str) -> Path:
    """The file of the state of one training of `stage`."""
    return FOLDER / stage / f"{key_of_training[:16]}.pt"


def save(file: Path, state: Mapping[str, Any]) -> None:
    """Keep the `state` of a training (tensors and plain values) in `file`: all of it or nothing.

    The states of `KEPT` trainings of the stage are kept, so that params that were tried in between cost no finished epoch.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(file, buffer.getvalue())
    states = sorted(file.parent.glob("*.pt"), key=lambda path: path.stat().st_mtime_ns)
    for old in states[:-KEPT]:
        _remove(old)


def load(file: Path) -> dict[str, Any] | None:
    """The state that `save` kept in `file`, or None."""
    _remove_recorded(file.parent)
    _done(file).unlink(missing_ok=True)
    try:
        state = torch.load(file, weights_only=True)
    except Exception:  # missing or damaged: the training starts from the beginning
        return None
    return state if isinstance(state, dict) else None


def finish(file: Path, checkpoint: Path) -> None:
    """Mark the training whose state is in `file` as finished, by the MD5 of its checkpoint.

    The state is kept until the next run finds the checkpoint in dvc.lock. If it were deleted now and DVC were killed before it
    writes dvc.lock, or its disk were full, every epoch would be lost.
    """
    write_bytes(_done(file), hashlib.md5(checkpoint.read_bytes()).hexdigest().encode())  # as DVC names files


def _done(file: Path) -> Path:
    return file.with_suffix(".done")


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    _done(file).unlink(missing_ok=True)


def _remove_recorded(folder: Path) -> None:
    """Remove the states of trainings whose result dvc.lock has: whoever runs such a stage again wants it trained again."""
    recorded = LOCK.read_bytes() if LOCK.exists() else b""
    for done in folder.glob("*.done"):
        if done.read_bytes() in recorded:
            _remove(done.with_suffix(".pt"))
