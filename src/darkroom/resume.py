"""The state of a training between its epochs, so that one that was killed goes on and ends in the same bytes."""

import hashlib
import io
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from darkroom.files import write_bytes

FOLDER = Path(".darkroom/state")  # ignored by Git and unknown to DVC: it never outlives the run that it belongs to


def key(*parts: bytes | Mapping[str, Any]) -> str:
    """A digest of all that decides how a training goes: its data and params, this code and the libraries' versions."""
    digest = hashlib.sha256()
    versions = {name: version(name) for name in ("torch", "torchvision", "timm", "numpy", "pillow")}
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    for part in (*parts, versions, *code):
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def save(name: str, own_key: str, state: Mapping[str, Any]) -> None:
    """Keep `state` (tensors and plain values) of the training `name`, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"key": own_key, **state}, buffer)
    write_bytes(FOLDER / f"{name}.pt", buffer.getvalue())


def load(name: str, own_key: str) -> dict[str, Any] | None:
    """What `save` kept for this very training, or None."""
    try:
        state: dict[str, Any] = torch.load(FOLDER / f"{name}.pt", weights_only=True)
    except Exception:  # missing or damaged: the training begins anew
        return None
    return state if state.get("key") == own_key else None


def forget(name: str) -> None:
    """Remove the state of a training that has ended."""
    (FOLDER / f"{name}.pt").unlink(missing_ok=True)
