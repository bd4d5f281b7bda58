"""What a Git revision, an experiment or the work tree says of its own results. All of it is in Git: no cache is needed."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from darkroom.comparison.data_diff import Row, read_manifest
from darkroom.data.layout import RAW, TRACKED
from darkroom.evaluation.titles import MODELS
from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError
from darkroom.system.trees import value_at

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
    git.refuse_elsewhere()
    shown = name or "the work tree"
    commit = None if name is None else dvc.commit(name)
    texts = {path: _text(commit, path, name) for path in (str(params.PARAMS), "dvc.lock", PREDICTIONS)}
    manifest = read_manifest(commit)
    try:
        tree, lock = params.parse(texts[str(params.PARAMS)]), params.parse(texts["dvc.lock"])["stages"]
        bins, merge = tree["evaluate"]["bins"], tree["evaluate"]["merge"]
        if not (isinstance(bins, int) and bins > 1 and isinstance(merge, str | None)):
            raise ValueError("evaluate.bins or evaluate.merge is out of range")
        params.pattern(merge)
        stale = _param_of_another_run(tree, lock)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"params.yaml or dvc.lock of {shown} is damaged ({reason}): get back the version that fits"
        ) from None
    predictions = _predictions(texts[PREDICTIONS], manifest, shown)
    if stale := stale or _file_of_another_run(lock, lambda path: git.show(commit, path) if commit else _read(path)):
        there = (
            "" if commit is None else " there (for an experiment, `dvc exp apply` it first), and commit what it changes"
        )
        raise UserError(f"the results of {shown} are not those of its {stale}: run `dvc repro`{there}")
    return Revision(shown, commit, manifest, tree, lock, predictions)


def _param_of_another_run(tree: dict[str, Any], lock: dict[str, Any]) -> str:
    """A param, or a model, of a revision that its results do not know, by dvc.lock; nothing where they are of one run."""
    made = {out["path"]: out["md5"] for stage in lock.values() for out in stage.get("outs", [])}
    for stage in lock.values():
        for path, used in stage.get("params", {}).get(str(params.PARAMS), {}).items():
            if value_at(tree, path) != used:
                return f"params ({path})"
        for used in stage.get("deps", []):
            if made.get(used["path"], used["md5"]) != used["md5"]:
                return str(used["path"])
    return ""


def _file_of_another_run(lock: dict[str, Any], content: Callable[[str], bytes | None]) -> str:
    """The first file whose `content` is not what dvc.lock vouches for; nothing where all are. Folders are not looked into."""
    files = {
        file["path"]: file["md5"]
        for stage in lock.values()
        for kind in ("deps", "outs")
        for file in stage.get(kind, [])
    }
    raw = content(str(TRACKED))
    if raw and f"md5: {files.get(str(RAW))}".encode() not in raw:
        return str(RAW)
    for path, md5 in files.items():
        data = None if md5.endswith(".dir") else content(path)
        if data is not None and hashlib.md5(data).hexdigest() != md5:
            return str(path)
    return ""


def default_base() -> str:
    """Where the current branch left the main branch.

    Raises:
        UserError: It cannot be told: another name, or a clone without that history.
    """
    for main in ("main", "master", "origin/main", "origin/master"):
        try:
            return git.read("rev-parse", "--short=12", git.read("merge-base", "HEAD", main))
        except UserError:
            continue
    raise UserError(
        "Git finds no place where this branch left main: name the BASE to compare with, or fetch more history "
        "(`git fetch --unshallow`)"
    )


def _text(commit: str | None, path: str, name: str | None) -> str:
    """A text file of the revision."""
    content = git.show(commit, path) if commit else _read(path)
    if content is None:
        what = f"revision '{name}'" if name else "the work tree"
        raise UserError(f"{what} has no {path}: it is from before the first `dvc repro`, or that was not committed")
    return content.decode("utf-8", "surrogateescape")


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if Path(path).is_file() else None


def _predictions(text: str, manifest: list[Row], name: str) -> Predictions:
    """Both models' predictions, found to be whole and of the manifest's images.

    Raises:
        UserError: They are not.
    """
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    damaged = UserError(f"{PREDICTIONS} of {name} is damaged: run `dvc repro` there and commit it")
    prefix = "scratch_"
    classes = (
        sorted(column.removeprefix(prefix) for column in rows[0] if column and column.startswith(prefix))
        if rows
        else []
    )
    try:
        listed = Counter((row["path"], row["actual"]) for row in rows)
        probabilities = {
            model: np.array([[float(row[f"{model}_{label}"]) for label in classes] for row in rows]) for model in MODELS
        }
    except (KeyError, TypeError, ValueError):
        raise damaged from None
    # Each was written to 6 digits.
    if not classes or not all(
        np.allclose(own.sum(1), 1, atol=1e-4) and (own >= 0).all() for own in probabilities.values()
    ):
        raise damaged
    tested = {place(row): row for row in manifest if row.split == "test"}
    misfit = listed - Counter((path, row.label) for path, row in tested.items())
    missing = tested.keys() - {path for path, _ in listed}
    if misfit or missing:
        raise UserError(
            f"data/manifest.csv and {PREDICTIONS} of {name} are not of one run ({len(misfit) + len(missing)} of the test images "
            "differ): run `dvc repro` there and commit all that it changed"
        )
    seen: Counter[str] = Counter()
    keys = []
    for row in rows:
        digest = tested[row["path"]].sha256
        keys.append(f"{digest} {seen[digest]}")
        seen[digest] += 1
    return Predictions(keys, [row["path"] for row in rows], [row["actual"] for row in rows], classes, probabilities)


def place(row: Row) -> str:
    """`class/.../name`: a data set that was parted already has the side before it."""
    return row.path if row.path.startswith(f"{row.label}/") else row.path.split("/", 1)[1]
