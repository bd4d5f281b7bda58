"""The state of a training between epochs. With it, a training that was killed goes on and ends in the same bytes."""

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

FOLDER = Path(".darkroom/state")  # ignored by Git and unknown to DVC
LOCK = Path("dvc.lock")


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


def save(name: str, key_of_training: str, state: Mapping[str, Any]) -> None:
    """Keep the `state` (tensors and plain values) of the training `name`: all of it or nothing."""
    buffer = io.BytesIO()
    torch.save({"key": key_of_training, **state}, buffer)
    write_bytes(FOLDER / f"{name}.pt", buffer.getvalue())


def load(name: str, key_of_training: str) -> dict[str, Any] | None:
    """The state that `save` kept under the same key, or None."""
    done, path = FOLDER / f"{name}.done", FOLDER / f"{name}.pt"
    noted = done.read_bytes() if done.exists() else b""
    if noted and LOCK.exists() and noted in LOCK.read_bytes():
        path.unlink(missing_ok=True)  # dvc.lock has the result of that training, so this run is a new one
    done.unlink(missing_ok=True)
    try:
        state = torch.load(path, weights_only=True)
    except Exception:  # missing or damaged: the training starts from the beginning
        return None
    return state if isinstance(state, dict) and state.get("key") == key_of_training else None


def finish(name: str, path: Path) -> None:
    """Mark the training `name` as finished, by the md5 of its checkpoint `path`.

    The state is kept until the next run finds `path` in dvc.lock. If it were deleted now and DVC were killed before it
    writes dvc.lock, or its disk were full, every epoch would be lost.
    """
    write_bytes(FOLDER / f"{name}.done", hashlib.md5(path.read_bytes()).hexdigest().encode())  # as DVC names files
