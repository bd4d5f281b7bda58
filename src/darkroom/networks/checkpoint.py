"""Model files that say what they are, and that are the same bytes for the same weights."""

import io
import pickle
import sys
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darkroom.networks.classifier import Classifier
from darkroom.system import machine
from darkroom.system.errors import UserError
from darkroom.system.files import sha256, write_bytes, write_json

MODELS = {"scratch": Path("models/scratch.pth"), "finetune": Path("models/finetune.pth")}


@dataclass(frozen=True)
class About:
    """What one needs to know to use the weights.

    Attributes:
        architecture: A name that `registry.build` knows.
        options: That architecture's own settings.
        classes: The class names, in the order of the logits.
        resolution: The side in pixels of the square input.
        flips: Of "horizontal" and "vertical" those under which an image stays the same thing.
        mean, std: Three each, of RGB scaled to 0 to 1; the input is (pixels / 255 - mean) / std.
    """

    architecture: str
    options: dict[str, Any]
    classes: list[str]
    resolution: int
    flips: list[str]
    mean: list[float]
    std: list[float]


def plain(state: dict[str, Tensor]) -> "OrderedDict[str, Tensor]":
    """A state dict whose pickled bytes depend on names and values alone.

    Pickle writes an object that it meets twice as a reference, and torch writes a tensor's whole storage; so each name is
    interned and each tensor is a contiguous copy of its own.
    """
    return OrderedDict((sys.intern(name), tensor.detach().cpu().contiguous().clone()) for name, tensor in state.items())


def save(path: Path, model: Classifier, about: About, made_by: dict[str, str]) -> None:
    """Write the weights of `model`, what they are and what made them to `path`, and a note of the machine beside it.

    No time, no path and no optimizer state is in it.
    """
    buffer = io.BytesIO()  # torch.save would name the archive after a temporary file
    torch.save({"about": asdict(about), "made_by": made_by, "state_dict": plain(model.state_dict())}, buffer)
    write_bytes(path, buffer.getvalue())
    record(path, made_by)


def record(path: Path, facts: dict[str, str]) -> None:
    """Note beside `path`, as JSON, on which machine and by what it was first made.

    Where the note is already about these very bytes it stays: a rebuild that gives the same result changes nothing.
    """
    note, digest = path.with_suffix(".json"), sha256(path.read_bytes())
    if f'"sha256": "{digest}"' not in (note.read_text("utf-8", "replace") if note.exists() else ""):
        write_json(note, {"sha256": digest, "made_by": {**facts, **machine.here()}})


def read_torch_file(path: str | Path) -> Any:
    """What torch.save wrote to `path`: tensors and plain values only, on the CPU.

    Raises:
        UserError: The file is missing, damaged, or holds objects whose loading would run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: check its name, or run `dvc repro`") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is damaged, or holds more than tensors, so that loading it could run code: save a plain state dict"
        ) from None
    except Exception:  # on bytes at random the unpickler stumbles in as many ways as there are bytes
        raise UserError(f"{path} cannot be read as a file of torch.save: get or build it again") from None
