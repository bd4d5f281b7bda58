"""What a project says about a model on its test images. Everything is read from files that are in Git."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.data import archives, groups, manifest
from darkroom.data.layout import MANIFEST, SIDES
from darkroom.evaluation import said
from darkroom.inference.locate import CHECKPOINT, reader
from darkroom.inference.predictor import Predictor
from darkroom.system import files, lock

SCORES, PREDICTIONS = "metrics/evaluate.json", "plots/predictions.csv"


@dataclass(frozen=True)
class OnTest:
    """A model's answers for the T test images of its project.

    Attributes:
        labels: int64 (T,).
        probabilities: float64 (T, K).
        units: int64 (T,), the unit of each image, from 0: its group, or the image itself.
        scores: The model's part of metrics/evaluate.json.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    units: np.ndarray
    scores: dict[str, Any]


def find(model: Path, asked: Predictor, revision: str | None) -> OnTest | str:
    """The results of a model on the test images of the project here, or why there are none.

    Args:
        model: The file of the model.
        asked: The same, read.
        revision: The Git revision whose results they are; None: those in the work tree.
    """
    read = reader(revision)
    locked, scores, predictions = (read(path) for path in (str(lock.LOCK), SCORES, PREDICTIONS))
    if not (locked and scores and predictions):
        return "there is no project with results here"
    stage = lock.parse(locked.decode()).get("evaluate", {})
    for path, content in ((SCORES, scores), (PREDICTIONS, predictions)):
        if lock.outs(stage).get(path) != hashlib.md5(content).hexdigest():
            return f"{path} is not what {lock.LOCK} says (run `dvc repro`)"
    md5 = _md5_of_checkpoint(model, asked.checkpoint_sha256)
    names = [Path(path).stem for path, locked_md5 in lock.deps(stage).items() if locked_md5 == md5]
    if not names:
        return "the project here has no results of this model"
    table = csv.DictReader(io.StringIO(predictions.decode("utf-8", "surrogateescape"), newline=""))
    if said.BRIEF[0] in (table.fieldnames or []):
        return f"{PREDICTIONS} does not have the probability of each class, of which there are too many"
    rows = [row for row in table if row["model"] == names[0]]
    probabilities = np.array([[float(row[f"probability_{label}"]) for label in asked.classes] for row in rows])
    labels = np.array([asked.classes.index(row["actual"]) for row in rows])
    units = _units([row["path"] for row in rows], revision)
    if units is None:
        return f"{MANIFEST} is of another split (run `dvc repro`)"
    return OnTest(labels, probabilities, units, json.loads(scores)[names[0]])


def _md5_of_checkpoint(model: Path, checkpoint_sha256: str) -> str | None:
    """The MD5, by which DVC knows it, of a checkpoint, or of that from which a model was exported, if it lies in models/."""
    if not checkpoint_sha256:
        return hashlib.md5(model.read_bytes()).hexdigest()
    here = (path.read_bytes() for path in sorted(Path("models").glob(f"*{CHECKPOINT}")))
    return next((hashlib.md5(data).hexdigest() for data in here if files.sha256(data) == checkpoint_sha256), None)


def _units(paths: Sequence[str], revision: str | None) -> np.ndarray | None:
    """The unit of each test image. None if the manifest does not have them all: `split` has run since, and `evaluate` has not."""
    rows = manifest.read(revision)
    group_of = {manifest.path_in_side(row): row.group for row in rows if row.split == "test"}
    return groups.units([group_of[path] for path in paths]) if group_of.keys() >= set(paths) else None


def seen(paths: Sequence[str], revision: str | None) -> dict[str, int]:
    """How many of the files are exact copies of images of each side of the project's split. Empty if there is no project."""
    if reader(revision)(str(MANIFEST)) is None or not Path("dvc.yaml").exists():
        return {}
    side_of = {row.sha256: row.split for row in manifest.read(revision) if row.split in SIDES}
    found = [side_of.get(files.sha256(archives.read(path))) for path in paths]
    return {side: found.count(side) for side in SIDES}
