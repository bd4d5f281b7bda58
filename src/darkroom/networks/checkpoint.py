"""Checkpoints: all that is needed to use a model, with the same bytes for the same weights."""

import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darkroom.networks.calibration import Calibration
from darkroom.networks.classifier import Classifier
from darkroom.system import device, inputs, lock
from darkroom.system.errors import UserError
from darkroom.system.files import write_bytes
from darkroom.system.params import Run


@dataclass(frozen=True)
class About:
    """What one needs to know to use the weights.

    Attributes:
        title: What tables and charts call the model.
        architecture: A name that `registry.build` knows.
        options: The further arguments of the function that builds it.
        classes: The class names, in the order of the logits.
        resolution: The side in pixels of the square input.
        flips: The flips that do not change the class of an image: "horizontal", "vertical", both or none. Probabilities are
            averaged over them.
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


def stage(name: str) -> str:
    """The stage that makes the model `name`."""
    return f"train_{name}"


def plain(state: dict[str, Tensor]) -> "OrderedDict[str, Tensor]":
    """A state dict whose pickled bytes depend only on names and values.

    Pickle writes an object that occurs twice as a reference, and torch writes a tensor's whole storage. So each name is
    interned, and each tensor is a contiguous copy.
    """
    return OrderedDict((sys.intern(name), tensor.detach().cpu().contiguous().clone()) for name, tensor in state.items())


def provenance(name: str, run: Run) -> dict[str, Any]:
    """What `save` writes about how the model `name` was made: on which kind of machine, and a digest of params and files."""
    return {"made_by": device.made_by(run), "made_from": inputs.digest_now(stage(name))}


def save(target: Path, model: Classifier, about: About, calibration: Calibration, made: Mapping[str, Any]) -> None:
    """Write the weights of `model`, what is known about it, and `made`, its `provenance`, to `target`.

    No time, no path and no optimizer state is in it.
    """
    content = {
        "about": asdict(about),
        "calibration": asdict(calibration),
        **made,
        "state_dict": plain(model.state_dict()),
    }
    buffer = io.BytesIO()  # torch.save would name the archive after a temporary file
    torch.save(content, buffer)
    write_bytes(target, buffer.getvalue())


def check_provenance(name: str, run: Run) -> str:
    """Check that the model `name` is what dvc.lock says that it is, and that this machine computes like the one that made it.

    Returns:
        The digest of what it was made from.

    Raises:
        UserError: dvc.lock names other params or files, or the model was made on another kind of machine.
    """
    content = read_torch_file(path(name))
    try:
        made_by, made_from = dict(content["made_by"]), str(content["made_from"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path(name)} was made by an earlier version of Darkroom, or by another program: rebuild it with `dvc repro`"
        ) from None
    again = f"run `dvc repro --force --no-run-cache --single-item {stage(name)}`"
    recorded = lock.read().get(stage(name)) if lock.LOCK.exists() else None
    if recorded and inputs.digest(lock.deps(recorded), lock.params(recorded)) != made_from:
        raise UserError(f"{path(name)} was made from other params or files than {lock.LOCK} names: {again}")
    here = device.kind(run)
    if differing := [key for key, value in here.items() if made_by.get(key) != value]:
        there = ", ".join(f"{key} {made_by.get(key)} there, {here[key]} here" for key in differing)
        raise UserError(
            f"{path(name)} was made on another kind of machine ({there}), and {lock.LOCK} must not mix results of two: {again}, "
            "or use run.device cpu and run.mode portable, which give the same bytes on every x86-64 machine with AVX2"
        )
    return made_from


def read_torch_file(source: str | Path) -> Any:
    """What torch.save wrote to `source`: tensors and plain values only, on the CPU.

    Raises:
        UserError: The file is missing, damaged, or holds objects whose loading would run code.
    """
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"{source} does not exist: check its name; `dvc pull` gets the models of a project, `dvc repro` builds them"
        ) from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{source} is damaged, or holds more than tensors, so that loading it could run code: save a plain state dict"
        ) from None
    except Exception:  # on random bytes the unpickler fails in many ways
        raise UserError(f"{source} cannot be read as a file of torch.save: get or build it again") from None
