"""A model that can be asked: which one, and what it says about pixels."""

import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.inference import settings
from darkroom.networks import forward, registry
from darkroom.networks.calibration import calibrated, unlikeness
from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError


@dataclass(frozen=True)
class Predictor:
    """A model and what one needs to know to use it.

    Attributes:
        title: What tables call it.
        classes: K class names.
        resolution: The side in pixels of the square input.
        known: scores, labels and unlikeness of val images, (V,) each: see `networks.calibration.Calibration`.
        answer: From pixels, uint8 (N, resolution, resolution, 3), to probabilities, float64 (N, K), and unlikeness, (N,).
    """

    title: str
    classes: list[str]
    resolution: int
    known: tuple[np.ndarray, np.ndarray, np.ndarray]
    answer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def load(model: str | None, revision: str | None) -> Predictor:
    """The model that the user means.

    Args:
        model: A name from the project's list, or a path of a checkpoint. None: the project's model with the highest val accuracy,
            or, outside of a project, the only checkpoint in this folder.
        revision: The Git revision whose model it is; None: the file that lies here.

    Raises:
        UserError: There is no such model, or more than one.
    """
    if revision is None:
        return _from_checkpoint(_path(model))
    git.refuse_elsewhere()
    commit = dvc.commit(revision)
    with tempfile.TemporaryDirectory() as folder:
        name = model or _chosen_by_val(lambda path: git.show(commit, path), f"revision {revision}")
        target = Path(folder) / "model.pth"
        try:
            dvc.read("get", "--quiet", ".", f"models/{name}.pth", "--rev", commit, "--out", str(target))
        except subprocess.CalledProcessError:
            raise UserError(
                f"DVC cannot get models/{name}.pth of {revision}: see its message above; `dvc pull --all-commits` gets what a "
                "remote has"
            ) from None
        return _from_checkpoint(target)


def _path(model: str | None) -> Path:
    """The file of the model that lies here."""
    if model and (Path(model).suffix or "/" in model):
        return Path(model)
    if Path(params.PARAMS).exists():
        return Path(f"models/{model or _chosen_by_val(_read_here, 'this project')}.pth")
    if model:
        raise UserError(f"--model {model}: there is no project here that has this name in its list: say a path")
    found = sorted(Path().glob("*.pth"))
    if len(found) != 1:
        raise UserError(f"there are {len(found)} checkpoints (*.pth) in this folder: say which one by --model")
    return found[0]


def _read_here(path: str) -> bytes | None:
    return Path(path).read_bytes() if Path(path).exists() else None


def _chosen_by_val(read: Callable[[str], bytes | None], where: str) -> str:
    """The model with the highest val accuracy; among equal ones, that with the lowest val loss. Test decides nothing.

    Args:
        read: From a path in the project to the file's content; None if there is none.
        where: What a message calls the project.

    Raises:
        UserError: No model is trained.
    """
    listed = params.parse((read(str(params.PARAMS)) or b"{}").decode()).get("models", [])
    scores: dict[str, dict[str, Any]] = {
        name: json.loads(content) for name in listed if (content := read(f"metrics/train_{name}.json"))
    }
    if not scores:
        raise UserError(f"{where} has no trained model yet: run `make` or `dvc repro`, or name a file by --model")
    return max(scores, key=lambda name: (scores[name]["val_accuracy"], -scores[name]["val_loss"]))


def _from_checkpoint(path: Path) -> Predictor:
    """The model of a checkpoint."""
    model = registry.load(path)
    known = model.calibration

    def answer(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, features = forward.look(model.network, pixels, model.about, settings.RUN)
        return calibrated(logits, known.temperature).numpy().round(6), unlikeness(features, known.space).numpy()

    of_val = known.scores.numpy(), known.labels.numpy(), known.unlikeness.numpy()
    return Predictor(model.about.title, model.about.classes, model.about.resolution, of_val, answer)
