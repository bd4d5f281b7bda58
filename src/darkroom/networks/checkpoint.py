"""Checkpoints: all that is needed to use a model, with the same bytes for the same weights."""

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


@dataclass(frozen=True)
class About:
    """What one needs to know to use the weights.

    Attributes:
        title: What tables and charts call the model.
        architecture: A name that `registry.build` knows.
        options: The further arguments of the function that builds it.
        classes: The class names, in the order of the logits.
        resolution: The side in pixels of the square input.
        flips: The flips that do not change the class of an image: "horizontal", "vertical", both or none. `evaluate`
            averages over them.
        mean, std: Three each, of RGB scaled to 0 to 1; the input is (pixels / 255 - mean) / std.
        curves: Whether the model was trained epoch by epoch, so that plots/train_NAME.csv exists.
    """

    title: str
    architecture: str
    options: dict[str, Any]
    classes: list[str]
    resolution: int
    flips: list[str]
    mean: list[float]
    std: list[float]
    curves: bool


def path(name: str) -> Path:
    """The checkpoint of the model `name`."""
    return Path(f"models/{name}.pth")


def plain(state: dict[str, Tensor]) -> "OrderedDict[str, Tensor]":
    """A state dict whose pickled bytes depend only on names and values.

    Pickle writes an object that occurs twice as a reference, and torch writes a tensor's whole storage. So each name is
    interned, and each tensor is a contiguous copy.
    """
    return OrderedDict((sys.intern(name), tensor.detach().cpu().contiguous().clone()) for name, tensor in state.items())


def save(target: Path, model: Classifier, about: About, made_by: dict[str, str]) -> None:
    """Write the weights of `model`, `about` and `made_by` to `target`, and a note on the machine beside it.

    No time, no path and no optimizer state is in it.
    """
    buffer = io.BytesIO()  # torch.save would name the archive after a temporary file
    torch.save({"about": asdict(about), "made_by": made_by, "state_dict": plain(model.state_dict())}, buffer)
    write_bytes(target, buffer.getvalue())
    record(target, made_by)


def record(target: Path, facts: dict[str, str]) -> None:
    """Note beside `target`, as JSON, on which machine and by what it was first made.

    A note about these very bytes is left as it is: a rebuild that gives the same result changes nothing.
    """
    note, digest = target.with_suffix(".json"), sha256(target.read_bytes())
    if f'"sha256": "{digest}"' not in (note.read_text("utf-8", "replace") if note.exists() else ""):
        write_json(note, {"sha256": digest, "made_by": {**facts, **machine.here()}})


def read_torch_file(source: str | Path) -> Any:
    """What torch.save wrote to `source`: tensors and plain values only, on the CPU.

    Raises:
        UserError: The file is missing, damaged, or holds objects whose loading would run code.
    """
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{source} does not exist: check its name, or run `dvc repro`") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{source} is damaged, or holds more than tensors, so that loading it could run code: save a plain state dict"
        ) from None
    except Exception:  # on random bytes the unpickler fails in many ways
        raise UserError(f"{source} cannot be read as a file of torch.save: get or build it again") from None
