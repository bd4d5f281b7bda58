"""What a Git revision, an experiment or the work tree says of its own results. All of it is in Git: no cache is needed."""

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from darkroom import git, params
from darkroom.data_diff import Row, read_manifest
from darkroom.errors import UserError
from darkroom.summary import MODELS

PREDICTIONS = "plots/predictions.csv"


@dataclass(frozen=True)
class Revision:
    """One side of a comparison.

    Attributes:
        name: As the user has it.
        commit: The full name; None for the work tree.
        manifest: A row a file of data/raw.
        params: params.yaml, nested.
        lock: The stages of dvc.lock.
        predictions: On its test images.
    """

    name: str
    commit: str | None
    manifest: list[Row]
    params: dict[str, Any]
    lock: dict[str, Any]
    predictions: "Predictions"


@dataclass(frozen=True)
class Predictions:
    """What both models say of the test images.

    Attributes:
        keys: N names that the same content has in any revision: its SHA-256, and its number among copies.
        paths: N, `class/.../name`.
        actual: N class names.
        classes: K, sorted.
        probabilities: Model -> float (N, K).
    """

    keys: list[str]
    paths: list[str]
    actual: list[str]
    classes: list[str]
    probabilities: dict[str, np.ndarray]


def load(name: str | None) -> Revision:
    """A revision, an experiment's name, or (None) the work tree.

    Raises:
        UserError: There is no such revision, or it lacks results, or its files do not fit each other.
    """
    commit = None if name is None else git.commit(name)
    manifest = read_manifest(name)
    tree = params.parse(_text(commit, str(params.PARAMS), name))
    lock = yaml.safe_load(_text(commit, "dvc.lock", name))["stages"]
    own = _predictions(_text(commit, PREDICTIONS, name), manifest, name or "the work tree")
    return Revision(name or "the work tree", commit, manifest, tree, lock, own)


def default_base() -> str:
    """Where the current branch left the main branch."""
    for main in ("main", "master", "origin/main", "origin/master"):
        try:
            return git.read("merge-base", "HEAD", main)
        except UserError:
            continue
    return "HEAD"


def _text(commit: str | None, path: str, name: str | None) -> str:
    """A text file of the revision."""
    content = git.show(commit, path) if commit else _read(path)
    if content is None:
        what = f"revision '{name}'" if name else "the work tree"
        raise UserError(f"{what} has no {path}: it is from before the first `dvc repro`, or that was not committed")
    return content.decode("utf-8", "surrogateescape")


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if Path(path).exists() else None


def _predictions(text: str, manifest: list[Row], name: str) -> Predictions:
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    digests = {place(row): row.sha256 for row in manifest if row.split == "test"}
    misfit = {row["path"] for row in rows} ^ digests.keys()
    if not rows or misfit:
        raise UserError(
            f"data/manifest.csv and {PREDICTIONS} of {name} are not of one run ({len(misfit)} test images stand in one of them "
            "only): run `dvc repro` there and commit all that it changed"
        )
    prefix = "scratch_"
    classes = sorted(column.removeprefix(prefix) for column in rows[0] if column.startswith(prefix))
    try:
        probabilities = {
            model: np.array([[float(row[f"{model}_{label}"]) for label in classes] for row in rows]) for model in MODELS
        }
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{PREDICTIONS} of {name} is damaged: run `dvc repro` there and commit it") from None
    seen: Counter[str] = Counter()
    keys = []
    for row in rows:
        digest = digests[row["path"]]
        keys.append(f"{digest} {seen[digest]}")
        seen[digest] += 1
    return Predictions(keys, [row["path"] for row in rows], [row["actual"] for row in rows], classes, probabilities)


def place(row: Row) -> str:
    """`class/.../name`: a data set that was parted already has the side before it."""
    return row.path if row.path.startswith(f"{row.label}/") else row.path.split("/", 1)[1]
