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

from darkroom.system import workers
from darkroom.system.files import write_bytes
from darkroom.system.lock import LOCK

FOLDER = Path(".darkroom/state")  # ignored by Git and unknown to DVC; has a folder per stage
KEPT = 4  # states per stage; one of the default fine-tuned model takes 55 MB


def digest(*parts: np.ndarray | Mapping[str, Any]) -> str:
    """The SHA-256 of `parts`."""
    found = hashlib.sha256()
    for part in parts:
        data = json.dumps(part, sort_keys=True).encode() if isinstance(part, Mapping) else np.ascontiguousarray(part)
        view = memoryview(data)  # type: ignore[arg-type]  # the bytes of an array, without a copy
        found.update(view.nbytes.to_bytes(8, "big"))
        found.update(view)
    return found.hexdigest()


def digest_of_code() -> str:
    """A digest of the loaded modules of darkroom."""
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "darkroom")
    return digest({name: Path(str(sys.modules[name].__file__)).read_text(encoding="utf-8") for name in loaded})


def path(stage: str, identity: Mapping[str, str]) -> Path:
    """The file of the state of the training of `stage` with this `loop.identity`."""
    return FOLDER / stage / f"{digest(identity)[:16]}.pt"


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
    """The state that `save` kept in `file`, or None. All workers get what the first one finds."""
    content, state = b"", None
    if workers.is_first():
        _remove_recorded(file.parent)
        _done(file).unlink(missing_ok=True)
        content = file.read_bytes() if file.exists() else b""
        state = _read(content)
    content = workers.from_first(content if state else b"")
    return state or _read(content)


def _read(content: bytes) -> dict[str, Any] | None:
    """The state, or None if it is missing or damaged: the training then starts from the beginning."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:
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
