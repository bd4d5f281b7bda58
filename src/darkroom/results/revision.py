"""Read the results of a Git revision, an experiment or the work tree. They are all in Git: DVC's cache is not needed."""

import csv
import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.data import manifest as manifest_file
from darkroom.data.layout import RAW, TRACKED
from darkroom.data.manifest import Row
from darkroom.evaluation import per_class, said, seed_runs
from darkroom.evaluation.said import Said
from darkroom.system import dvc, git, inputs, lock, params, pipeline
from darkroom.system.errors import UserError
from darkroom.system.trees import value_at

PREDICTIONS = "plots/predictions.csv"
METRICS = "metrics/evaluate.json"
SPLIT_METRICS = "metrics/split.json"
LOOK_ALIKES = "plots/near_duplicates.csv"
PREFIX = "probability_"


@dataclass(frozen=True)
class Predictions:
    """The predictions of a revision's models for its N test images and K classes.

    Attributes:
        keys: N keys that identify the images across revisions: the SHA-256 of the content, and a number that counts its copies.
        paths: N paths, `class/.../name`.
        actual: N class names.
        groups: N names of groups; all are "" if the data set has no groups.
        classes: K class names, sorted.
        said: Model -> what it says about the images.
    """

    keys: list[str]
    paths: list[str]
    actual: list[str]
    groups: list[str]
    classes: list[str]
    said: dict[str, Said]

    @property
    def labels(self) -> np.ndarray:
        """The index in `classes` of the class of each image, int64 (N,)."""
        return np.searchsorted(self.classes, self.actual)


@dataclass(frozen=True)
class Revision:
    """One side of a comparison.

    Attributes:
        name: The name that the user gave, or "the work tree".
        commit: The full hash of the commit. None for the work tree.
        manifest: One row per file of data/raw.
        params: The content of params.yaml.
        lock: The stages of dvc.lock by name.
        titles: Model -> its title in tables.
        scores: The content of metrics/evaluate.json.
        predictions: The models' predictions for the test images.
        look_alikes: Path of a test image, as in `predictions` -> paths in data/raw of its look-alikes in train, nearest first.
        runs: The same params, code and data under several seeds, from metrics/seeds.json. None if there are no such results.
        no_runs: What there is instead of `runs`, "" if there are some.
    """

    name: str
    commit: str | None
    manifest: list[Row]
    params: dict[str, Any]
    lock: dict[str, Any]
    titles: dict[str, str]
    scores: dict[str, Any]
    predictions: Predictions
    look_alikes: dict[str, list[str]]
    runs: seed_runs.Runs | None = None
    no_runs: str = ""


def load(name: str | None) -> Revision:
    """Read the results of a Git revision or an experiment, or of the work tree if `name` is None.

    Raises:
        UserError: There is no such revision, it has no results, or its files do not belong to one run.
    """
    git.refuse_elsewhere()
    shown = name or "the work tree"
    commit = None if name is None else dvc.commit(name)

    def content(path: str) -> bytes | None:
        return git.show(commit, path) if commit else _read(path)

    def text(path: str) -> str:
        data = content(path)
        if data is None:
            what = f"revision '{name}'" if name else "the work tree"
            raise UserError(
                f"{what} has no {path}: it is from before the first `dvc repro`, or the results were not committed"
            )
        return data.decode("utf-8", "surrogateescape")

    tree, locked = _params_and_lock(text(str(params.PARAMS)), text(str(lock.LOCK)), shown)
    listed = params.parse(text(str(pipeline.PIPELINE)), f"{pipeline.PIPELINE} of {shown}")["stages"]
    # DVC keeps the entries of stages that were removed, and calls one of a matrix NAME@ITEM.
    stages = {name: entry for name, entry in locked.items() if name.partition("@")[0] in listed}
    manifest = manifest_file.read(commit)
    predictions = _predictions(text(PREDICTIONS), manifest, shown)
    scores = _scores(text(METRICS), predictions, shown)
    look_alikes = _look_alikes(text(LOOK_ALIKES), manifest, shown)
    if stale := _stale_param(tree, stages) or _stale_file(stages, content):
        where = " there (for an experiment, after `dvc exp apply`), and commit what it changes" if commit else ""
        raise UserError(f"the results of {shown} are not those of its {stale}: run `dvc repro`{where}")
    made_from = {f"train_{model}": scores[model].get("made_from") for model in predictions.said}
    made_from["split"] = _made_from(content(SPLIT_METRICS))
    if stage := _made_from_others(made_from, stages):
        raise UserError(
            f"dvc.lock of {shown} names other params or files for {stage} than its results were made from: run "
            f"`dvc repro --force --no-run-cache --single-item {stage}` and `dvc repro` there, and commit what they change"
        )
    titles = {model: str(scores[model]["title"]) for model in predictions.said}

    def result() -> seed_runs.Result:
        return seed_runs.Result(scores, per_class.of_revision(content(per_class.PATH), scores))

    runs = seed_runs.belonging(content(seed_runs.PATH), result, list(titles), value_at(tree, "run.seed"))
    return Revision(shown, commit, manifest, tree, stages, titles, scores, predictions, look_alikes, *runs)


def content(revision: Revision) -> Callable[[str], bytes | None]:
    """The function that gives the content of a file of a revision, by its path; None if there is no such file."""
    commit = revision.commit
    return (lambda path: git.show(commit, path)) if commit else _read


def table(revision: Revision, path: str) -> list[dict[str, str]]:
    """The rows of a CSV file of a revision; none if it has no such file."""
    text = (content(revision)(path) or b"").decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _params_and_lock(text: str, locked: str, shown: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse params.yaml and the stages of dvc.lock, and check the entries that a comparison uses.

    Raises:
        UserError: One of them is damaged.
    """
    tree = params.parse(text, f"params.yaml of {shown}")
    try:
        stages = lock.parse(locked)
        bins, merge = tree["evaluate"]["bins"], tree["evaluate"]["merge"]
        if not (isinstance(bins, int) and bins > 1 and isinstance(merge, str | None)):
            raise ValueError("evaluate.bins or evaluate.merge is out of range")
        params.pattern(merge)
        for stage in stages.values():
            lock.inputs(stage), lock.outs(stage)
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"params.yaml or dvc.lock of {shown} is damaged ({reason}): restore both files from one commit"
        ) from None
    return tree, stages


def _stale_param(tree: dict[str, Any], stages: dict[str, Any]) -> str:
    """The first param or dependency with which dvc.lock is out of date, "" if there is none.

    dvc.lock records the params and the dependencies with which each stage was run. A stage is out of date if params.yaml has
    another value now, or if an earlier stage has made another version of a dependency since.
    """
    made = {path: md5 for stage in stages.values() for path, md5 in lock.outs(stage).items()}
    for stage in stages.values():
        for key, used in lock.params(stage).items():
            if value_at(tree, key) != used:
                return f"params ({key})"
        for path, md5 in lock.deps(stage).items():
            if made.get(path, md5) != md5:
                return path
    return ""


def _stale_file(stages: dict[str, Any], content: Callable[[str], bytes | None]) -> str:
    """The first file whose md5 differs from the one in dvc.lock, "" if there is none. Folders are not checked.

    The one exception is data/raw, whose md5 is in data/raw.dvc. `content` returns the bytes of a file, or None.
    """
    files = {path: md5 for stage in stages.values() for path, md5 in {**lock.deps(stage), **lock.outs(stage)}.items()}
    raw = content(str(TRACKED))
    if raw and f"md5: {files.get(str(RAW))}".encode() not in raw:
        return str(RAW)
    for path, md5 in files.items():
        data = None if md5.endswith(".dir") else content(path)
        if data is not None and hashlib.md5(data).hexdigest() != md5:
            return path
    return ""


def default_base() -> str:
    """The commit at which the current branch left main, as an abbreviated hash.

    Raises:
        UserError: It cannot be found, because the main branch has another name or the clone lacks the history.
    """
    for main in ("main", "master", "origin/main", "origin/master"):
        try:
            return git.read("rev-parse", "--short=12", git.read("merge-base", "HEAD", main))
        except UserError:
            continue
    raise UserError(
        "Git finds no commit at which this branch left main: name the BASE to compare with, or fetch more history "
        "(`git fetch --unshallow`)"
    )


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if Path(path).is_file() else None


def _scores(text: str, predictions: Predictions, shown: str) -> dict[str, Any]:
    """The content of metrics/evaluate.json.

    Raises:
        UserError: It is damaged, or has no metrics of a model of `predictions`.
    """
    try:
        scores: dict[str, Any] = json.loads(text)
        if all(scores[model]["title"] and scores[model]["accuracy"]["value"] for model in predictions.said):
            return scores
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{METRICS} and {PREDICTIONS} of {shown} are not of one run: run `dvc repro` there and commit what it changed"
    )


def _made_from(text: bytes | None) -> str | None:
    """The digest of what the split was made from, from the content of metrics/split.json. None if there is none, as in 0.1."""
    try:
        return str(json.loads(text or b"")["made_from"])
    except (ValueError, KeyError, TypeError):
        return None


def _made_from_others(made_from: Mapping[str, str | None], stages: dict[str, Any]) -> str:
    """The first stage whose results were made from other params or files than dvc.lock names, "" if there is none.

    DVC records what it finds when a stage has ended. The results know what they were made from.
    """
    for stage, recorded in made_from.items():
        locked = stages.get(stage)
        if locked and recorded and inputs.digest(lock.deps(locked), lock.params(locked)) != recorded:
            return stage
    return ""


def _predictions(text: str, manifest: list[Row], shown: str) -> Predictions:
    """The models' predictions, from the CSV text of plots/predictions.csv.

    Raises:
        UserError: The text is damaged, or is not about the test images in the manifest.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if "model" not in (reader.fieldnames or []):
        raise UserError(
            f"{PREDICTIONS} of {shown} is damaged, or was written by Darkroom 0.1: run `dvc repro` there and commit what it "
            "changed"
        )
    by_model = defaultdict(list)
    for row in reader:
        by_model[row["model"]].append(row)
    brief = said.BRIEF[0] in (reader.fieldnames or [])
    classes = sorted(name.removeprefix(PREFIX) for name in reader.fieldnames or [] if name.startswith(PREFIX))
    classes = sorted({row.label for row in manifest if row.split == "train"}) if brief else classes
    try:
        of_models = {model: (_brief if brief else _whole)(rows, classes) for model, rows in by_model.items()}
        images = [[(row["path"], row["actual"]) for row in rows] for rows in by_model.values()]
        if not images or any(listed != images[0] for listed in images):
            raise ValueError("the models were tested on different images")
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{PREDICTIONS} of {shown} is damaged: run `dvc repro` there and commit what it changed"
        ) from None
    tested = _tested(images[0], manifest, shown)
    paths, actual = ([image[part] for image in images[0]] for part in (0, 1))
    return Predictions(_keys(tested), paths, actual, [row.group for row in tested], classes, of_models)


def _brief(rows: Sequence[dict[str, str]], classes: Sequence[str]) -> Said:
    """What one model says, where the file has no probability of each class.

    Raises:
        KeyError, ValueError: A class is unknown, or a number is not a probability.
    """
    index = {label: k for k, label in enumerate(classes)}
    predicted = np.array([index[row["predicted"]] for row in rows])
    confidence, of_label = (np.array([float(row[name]) for row in rows]) for name in said.BRIEF)
    if not ((confidence > 0).all() and (confidence <= 1).all() and (of_label >= 0).all()):
        raise ValueError("a number is not a probability")
    return Said(predicted, confidence, of_label)


def _whole(rows: Sequence[dict[str, str]], classes: Sequence[str]) -> Said:
    """What one model says, where the file has the probability of each class.

    Raises:
        KeyError, ValueError: A class is unknown, or a row is not a probability distribution.
    """
    index = {label: k for k, label in enumerate(classes)}
    return said.from_probabilities(_probabilities(rows, classes), np.array([index[row["actual"]] for row in rows]))


def _probabilities(rows: Sequence[dict[str, str]], classes: Sequence[str]) -> np.ndarray:
    """The probabilities of one model, float (N, K).

    Raises:
        ValueError: There is no class, or a row is not a probability distribution.
    """
    probabilities = np.array([[float(row[f"{PREFIX}{label}"]) for label in classes] for row in rows])
    # Each probability was rounded to 6 decimals, so the error of a sum grows with the number of classes.
    rounding = 1e-6 * max(1, len(classes))
    if not classes or not ((np.abs(probabilities.sum(1) - 1) <= rounding).all() and (probabilities >= 0).all()):
        raise ValueError("the probabilities of an image do not sum to 1")
    return probabilities


def _tested(images: Sequence[tuple[str, str]], manifest: list[Row], shown: str) -> list[Row]:
    """The row of the manifest of each (path, class) pair of test images.

    Raises:
        UserError: The images are not the manifest's test images.
    """
    tested = {manifest_file.path_in_side(row): row for row in manifest if row.split == "test"}
    listed = Counter(images)
    unexpected = listed - Counter((path, row.label) for path, row in tested.items())
    missing = tested.keys() - {path for path, _ in listed}
    if unexpected or missing:
        raise UserError(
            f"data/manifest.csv and {PREDICTIONS} of {shown} are not of one run ({len(unexpected) + len(missing)} of the test "
            "images differ): run `dvc repro` there and commit what it changed"
        )
    return [tested[path] for path, _ in images]


def _look_alikes(text: str, manifest: list[Row], shown: str) -> dict[str, list[str]]:
    """The look-alikes in train of each test image that has one, from the CSV text of plots/near_duplicates.csv.

    Darkroom 0.1 listed no other pairs, in the columns `train` and `test`.

    Raises:
        UserError: The text is damaged, or is not about the test images in the manifest.
    """
    tested = {row.path: manifest_file.path_in_side(row) for row in manifest if row.split == "test"}
    found = defaultdict(list)
    try:
        for row in csv.DictReader(io.StringIO(text, newline="")):
            if row.get("sides", "train-test") == "train-test":
                found[tested[row.get("second") or row["test"]]].append(row.get("first") or row["train"])
    except KeyError:
        raise UserError(
            f"{LOOK_ALIKES} of {shown} is damaged, or is not of one run with data/manifest.csv: run `dvc repro` there and "
            "commit what it changed"
        ) from None
    return dict(found)


def _keys(tested: Sequence[Row]) -> list[str]:
    """The keys of `Predictions` for rows of the manifest."""
    copies: Counter[str] = Counter()
    keys = []
    for row in tested:
        keys.append(f"{row.sha256} {copies[row.sha256]}")
        copies[row.sha256] += 1
    return keys
