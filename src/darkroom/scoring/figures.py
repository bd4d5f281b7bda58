"""How good a model is on labelled images of another site, camera or month, beside the figures on test: `darkroom score`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from darkroom.data import groups
from darkroom.data.images import Folder
from darkroom.data.layout import SPLIT
from darkroom.evaluation import bootstrap, conformal, metrics, said, unpaired
from darkroom.evaluation.said import Said
from darkroom.inference.predict import predict
from darkroom.inference.predictor import Predictor
from darkroom.scoring import labelled, on_test, text
from darkroom.scoring.labelled import Labelled
from darkroom.scoring.on_test import OnTest
from darkroom.stages import evaluate
from darkroom.system import params
from darkroom.system.errors import UserError

DEFAULTS = evaluate.Params(bins=15, resamples=1000, merge=None)  # outside of a project
SEED = 1  # of the bootstrap outside of a project
VALUES = 20  # of a column that are scored one by one, the most frequent ones

# What is compared with test. For those in LOWER_IS_BETTER a fall is an improvement; of SHARES_OF_ANSWERS neither is better.
COMPARED = ("accuracy", "merged_accuracy", "macro_f1", "auroc", "ece", "log_loss", "coverage", "sure", "unknown")
OVER_CLASSES = ("macro_f1", "auroc")
LOWER_IS_BETTER = ("log_loss",)
SHARES_OF_ANSWERS = ("coverage", "sure", "unknown")
TOO_FEW, OTHER_CLASSES, NO_INTERVAL, NO_EVIDENCE = "too few", "other classes", "no interval", "no evidence"


@dataclass(frozen=True)
class Scored:
    """A model's answers for N labelled images.

    Attributes:
        about: What their owner says about the images.
        labels: int64 (N,).
        probabilities: float64 (N, K).
        unknown: bool (N,).
        units: int64 (N,), the unit of each image, from 0: its group, or the image itself.
    """

    about: Labelled
    labels: np.ndarray
    probabilities: np.ndarray
    unknown: np.ndarray
    units: np.ndarray


def score(model: Path, asked: Predictor, source: Path, revision: str | None) -> tuple[dict[str, Any], Scored]:
    """Every figure of a model on labelled images.

    Args:
        model: The file of the model.
        asked: The same, read.
        source: A folder with a folder per class, or a CSV with path and label.
        revision: The Git revision that the model is of, for its figures on test; None: the work tree.

    Returns:
        The figures as a tree that JSON can hold, except for NaN, and the answers.

    Raises:
        UserError: The labels cannot be used, or no image can be read.
    """
    scored, failed = answers(asked, labelled.read(source, asked.classes))
    known = on_test.find(model, asked, revision)
    same = source.resolve() == (SPLIT / "test").resolve()
    test = known if isinstance(known, OnTest) and not same else None
    new_figures, test_figures = figures(asked, scored), figures_on_test(asked, test) if test else {}
    sides = None if test is None else (scored, test)
    tree = {
        "model": asked.title,
        "images": len(scored.labels),
        "groups": _groups(scored.units),
        "failed": failed,
        "test_images": len(test.labels) if test else None,
        "test_groups": _groups(test.units) if test else None,
        "no_test": text.ON_TEST if same else known if isinstance(known, str) else "",
        "copies": {} if same else on_test.seen(scored.about.paths, revision),
        "figures": {name: compared(name, of, test_figures.get(name), sides) for name, of in new_figures.items()},
        "classes": of_classes(asked.classes, scored, test),
        "of_groups": of_groups(scored),
        "columns": {name: of_values(values, scored) for name, values in scored.about.columns.items()},
    }
    return tree, scored


def answers(asked: Predictor, images: Labelled) -> tuple[Scored, list[dict[str, str]]]:
    """The model's answers, and the files that cannot be read with the reasons. Pixels are held for a few images at a time.

    Raises:
        UserError: No image can be read.
    """
    limits = conformal.limits_of(asked.known, len(asked.classes))
    probabilities = np.empty((len(images.paths), len(asked.classes)))
    unknown = np.empty(len(images.paths), bool)
    kept: list[int] = []
    failed = []
    bar = tqdm(
        predict(asked, images.paths, limits), "scoring", len(images.paths), unit="image", leave=False, disable=None
    )
    for index, one in enumerate(bar):
        if one.reason:
            failed.append({"path": one.path, "reason": one.reason})
            continue
        probabilities[len(kept)], unknown[len(kept)] = one.probabilities, one.unknown
        kept.append(index)
    if not kept:
        raise UserError(
            f"none of the {len(failed)} images can be read, as {failed[0]['path']}, which {failed[0]['reason']}"
        )
    about, count = images.only(kept), len(kept)
    labels = np.array([asked.classes.index(label) for label in about.labels])
    units = groups.units(about.groups)
    return Scored(about, labels, probabilities[:count], unknown[:count], units), failed


def figures(asked: Predictor, scored: Scored) -> dict[str, dict[str, float]]:
    """Every figure of the stage evaluate: value, and low and high where there is an interval."""
    choices, seed = settings()
    images = Folder(np.empty(0, np.uint8), scored.labels, scored.about.paths, asked.classes)
    of_model = said.from_probabilities(scored.probabilities, scored.labels)
    limits = conformal.limits_of(asked.known, len(asked.classes))
    doubt_of = evaluate.with_sets(of_model, of_model, limits, scored.labels, scored.unknown)
    found = evaluate.judge(images, of_model, scored.units, choices, seed)
    doubt = evaluate.judge_doubt(images, doubt_of, scored.units)
    return {
        **{name: found[name] for name in COMPARED if name in found},
        "log_loss": log_loss(of_model, scored.units, choices.resamples, seed),
        **_of_sets(doubt, doubt_of.sure, scored.units),
    }


def figures_on_test(asked: Predictor, test: OnTest) -> dict[str, dict[str, float]]:
    """The same on test: those of metrics/evaluate.json, and the intervals that are not in it."""
    choices, seed = settings()
    in_set = conformal.limits_of(asked.known, len(asked.classes)).sets(test.probabilities)
    return {
        **{name: test.scores[name] for name in COMPARED if name in test.scores},
        "log_loss": log_loss(
            said.from_probabilities(test.probabilities, test.labels), test.units, choices.resamples, seed
        ),
        **_of_sets(test.scores, conformal.sure(in_set, test.probabilities), test.units),
    }


def _of_sets(doubt: Mapping[str, Any], sure: np.ndarray, units: np.ndarray) -> dict[str, dict[str, float]]:
    sets = doubt["sets"]
    if_sure = {"accuracy_if_sure": {"value": sets["accuracy_if_sure"]}} if "accuracy_if_sure" in sets else {}
    return {
        "coverage": sets["coverage"],
        "mean_size": {"value": sets["mean_size"]},
        "sure": metrics.share(sure, units),
        **if_sure,
        "unknown": doubt["unknown"],
    }


def settings() -> tuple[evaluate.Params, int]:
    """How the figures are computed: as the project here does, or by default. Also the seed of the bootstrap."""
    if not params.PARAMS.exists():
        return DEFAULTS, SEED
    return params.load("evaluate", evaluate.Params), params.load("run", params.Run).seed


def log_loss(of_model: Said, units: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """The mean cross-entropy in nats, with its bootstrap interval."""
    return mean(metrics.losses(of_model), units, resamples, seed)


def mean(values: np.ndarray, units: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """The mean of a value of each image, (N,), with its bootstrap interval."""

    def statistic(_: np.ndarray, of_images: np.ndarray, weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = weights @ of_images / weights.sum(1)
        return found

    of_one_class = np.zeros(len(values), np.int64)  # the mix of classes is part of the chance
    low, high = bootstrap.intervals({"": statistic}, of_one_class, values, units, resamples, seed)[""]
    return evaluate.with_interval(float(values.mean()), low, high)


def compared(
    name: str, new: Mapping[str, float], test: Mapping[str, float] | None, sides: tuple[Scored, OnTest] | None
) -> dict[str, Any]:
    """A figure on both sides, the difference, and the verdict at 5 %."""
    if sides is None or test is None:
        return {"new": new, "test": test, "difference": None, "verdict": ""}
    change = unpaired.difference(new, test)
    if name not in COMPARED or "low" not in change:
        return {"new": new, "test": test, "difference": {"value": change["value"]}, "verdict": NO_INTERVAL}
    if reason := _no_verdict(name, *sides):
        return {"new": new, "test": test, "difference": {"value": change["value"]}, "verdict": reason}
    return {"new": new, "test": test, "difference": change, "verdict": _verdict(name, change)}


def _no_verdict(name: str, scored: Scored, test: OnTest) -> str:
    """Why the two sides cannot be compared; "" if they can."""
    for side in (scored, test):
        if len(side.labels) < unpaired.FEWEST_IMAGES or int(side.units.max()) + 1 < unpaired.FEWEST_UNITS:
            return TOO_FEW
    if name in OVER_CLASSES:
        new, old = Counter(scored.labels.tolist()), Counter(test.labels.tolist())
        if new.keys() != old.keys():
            return OTHER_CLASSES
        if min(*new.values(), *old.values()) < unpaired.FEWEST_OF_A_CLASS:
            return TOO_FEW
    return ""


def _verdict(name: str, change: Mapping[str, float]) -> str:
    if change["low"] <= 0 <= change["high"]:
        return NO_EVIDENCE
    rises = change["value"] > 0
    if name in SHARES_OF_ANSWERS:
        return "higher" if rises else "lower"
    return "better" if rises != (name in LOWER_IS_BETTER) else "worse"


def of_classes(classes: Sequence[str], scored: Scored, test: OnTest | None) -> list[dict[str, Any]]:
    """Precision and recall of each class, and whether its recall differs from that on test, by Holm's method over the classes."""
    rows = [_of_class(label, index, scored, test) for index, label in enumerate(classes)]
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, metrics.holm([row["p"] for row in tested]), strict=True):
        row["p"] = p
        rises = row["recall"]["value"] > row["test_recall"]["value"]
        row["verdict"] = NO_EVIDENCE if p >= metrics.LEVEL else "better" if rises else "worse"
    return rows


def _of_class(label: str, index: int, scored: Scored, test: OnTest | None) -> dict[str, Any]:
    predicted = scored.probabilities.argmax(1)
    new = _recall(index, scored.labels, scored.probabilities, scored.units)
    old = _recall(index, test.labels, test.probabilities, test.units) if test else None
    of_predicted = predicted == index
    row: dict[str, Any] = {
        "class": label,
        "images": int((scored.labels == index).sum()),
        "test_images": int((test.labels == index).sum()) if test else None,
        "precision": float((scored.labels == index)[of_predicted].mean()) if of_predicted.any() else None,
        "recall": new and new[0],
        "test_recall": old and old[0],
        "p": None,
        "verdict": "",
    }
    if new and old:
        enough = min(new[1], old[1]) >= unpaired.FEWEST_UNITS
        row["verdict"] = "" if enough else TOO_FEW
        row["p"] = unpaired.p_value(new[2], old[2]) if enough else None
    return row


def _recall(
    index: int, labels: np.ndarray, probabilities: np.ndarray, units: np.ndarray
) -> tuple[dict[str, float], int, unpaired.Share] | None:
    """The share of the images of a class that the model gets right, the number of units, and the share as the test needs it."""
    inside = labels == index
    if not inside.any():
        return None
    right, own = probabilities[inside].argmax(1) == index, np.unique(units[inside], return_inverse=True)[1]
    count = metrics.effective_count(right, own)
    return metrics.share(right, own), int(own.max()) + 1, unpaired.Share(float(right.mean()), count)


def of_groups(scored: Scored) -> dict[str, Any] | None:
    """How often the class with the highest mean probability over a group's images is the group's class.

    A group whose images have several classes has no class of its own, and is left out.
    """
    if (number := _groups(scored.units)) is None:
        return None
    sizes = np.bincount(scored.units)
    means = np.stack([np.bincount(scored.units, column) for column in scored.probabilities.T], 1) / sizes[:, None]
    first = scored.labels[np.unique(scored.units, return_index=True)[1]]
    uniform = np.bincount(scored.units, scored.labels != first[scored.units]) == 0
    if not uniform.any():
        return {"groups": 0, "mixed": number, "accuracy": None}
    right = means.argmax(1)[uniform] == first[uniform]
    accuracy = metrics.share(right, np.arange(len(right)))
    return {"groups": len(right), "mixed": number - len(right), "accuracy": accuracy}


def of_values(values: Sequence[str], scored: Scored) -> dict[str, Any]:
    """The accuracy for each value of a column, the most frequent ones. None if no two images have the same value."""
    counts = Counter(values)
    if len(counts) == len(values):
        return {"values": [], "others": len(counts)}
    column = np.array(values)
    rows = []
    for value, count in counts.most_common(VALUES):
        inside = column == value
        right = scored.probabilities[inside].argmax(1) == scored.labels[inside]
        units = np.unique(scored.units[inside], return_inverse=True)[1]
        shares = {"accuracy": metrics.share(right, units), "unknown": metrics.share(scored.unknown[inside], units)}
        rows.append({"value": value, "images": count, "groups": _groups(units), **shares})
    return {"values": rows, "others": len(counts) - len(rows)}


def _groups(units: np.ndarray) -> int | None:
    """The number of groups; None if each image stands for itself."""
    number = int(units.max()) + 1
    return number if number < len(units) else None
