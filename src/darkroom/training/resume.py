"""The state of a training between its epochs, so that one that was killed goes on and ends in the same bytes."""

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
    """A digest of `parts`, which are all that decides how a training goes, and of the code of ours that is loaded."""
    digest = hashlib.sha256()
    own = sorted(name for name in sys.modules if name.split(".")[0] == "darkroom")
    code = [Path(str(sys.modules[name].__file__)).read_bytes() for name in own]
    for part in (*parts, *code):
        data = json.dumps(part, sort_keys=True).encode() if isinstance(part, Mapping) else part
        view = memoryview(data)  # type: ignore[arg-type]  # an array's own bytes: no copy
        digest.update(view.nbytes.to_bytes(8, "big"))
        digest.update(view)
    return digest.hexdigest()


def save(name: str, own_key: str, state: Mapping[str, Any]) -> None:
    """Keep `state` (tensors and plain values) of the training `name`, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"key": own_key, **state}, buffer)
    write_bytes(FOLDER / f"{name}.pt", buffer.getvalue())


def load(name: str, own_key: str) -> dict[str, Any] | None:
    """What `save` kept for this very training, or None."""
    done, path = FOLDER / f"{name}.done", FOLDER / f"{name}.pt"
    noted = done.read_bytes() if done.exists() else b""
    if noted and LOCK.exists() and noted in LOCK.read_bytes():
        path.unlink(missing_ok=True)  # DVC has its result: who runs it again wants it trained again
    done.unlink(missing_ok=True)
    try:
        state = torch.load(path, weights_only=True)
    except Exception:  # missing or damaged: the training begins anew
        return None
    return state if isinstance(state, dict) and state.get("key") == own_key else None


def finish(name: str, path: Path) -> None:
    """Note that the training `name` has written all it had to, `path` among it.

    The state is kept until the next run finds that DVC has taken note of `path`: were DVC killed before that, or its disk
    full, every epoch would be lost.
    """
    write_bytes(FOLDER / f"{name}.done", hashlib.md5(path.read_bytes()).hexdigest().encode())  # as DVC names files
