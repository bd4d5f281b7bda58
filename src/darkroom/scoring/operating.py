"""Operating points: a threshold for a sensitivity that one asks for, or decisions by their costs. Val alone chooses them."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from darkroom.evaluation import conformal, metrics, unpaired
from darkroom.evaluation.metrics import CONFIDENCE
from darkroom.inference.predictor import Predictor
from darkroom.scoring import figures
from darkroom.scoring.figures import Scored
from darkroom.system import params
from darkroom.system.errors import UserError

ACTUAL = "actual"  # the first column of a table of costs
DIGITS = 6  # of the probabilities that `darkroom predict` gives


@dataclass(frozen=True)
class Threshold:
    """A threshold on the probability of a class, for a sensitivity.

    Attributes:
        label: The class.
        asked: The sensitivity, between 0 and 1.
        limit: Images whose probability of the class is at least this are called the class.
        val_images: Number of val images that chose it.
        expected: low and high, the middle 95 % of the sensitivity that so many val images give.
    """

    label: str
    asked: float
    limit: float
    val_images: int
    expected: dict[str, float]


def threshold(asked: Predictor, label: str, sensitivity: float) -> Threshold:
    """The threshold on the probability of a class that finds a share of its images.

    It is a conformal quantile of the val images of the class: a new image of the class, of the same kind as these, is found with
    at least the probability that is asked for. That holds on average over sets of val images. Given the set that there is, the
    sensitivity follows a beta distribution (Vovk 2012).

    Args:
        asked: The model.
        label: The class.
        sensitivity: Between 0 and 1.

    Raises:
        UserError: The model has no such class, or val has too few images of it.
    """
    if label not in asked.classes:
        raise UserError(f"--of {label}: the model has no such class; it knows {', '.join(asked.classes)}")
    scores, labels, _ = asked.known
    own = scores[labels == asked.classes.index(label)]
    score_limit = conformal.quantile(own, 1 - sensitivity)
    if not math.isfinite(score_limit):
        needed = math.ceil(round(sensitivity / (1 - sensitivity), 9))
        raise UserError(
            f"--sensitivity {sensitivity:g} --of {label}: val has {len(own)} images of the class, and at least {needed} are "
            "needed to promise it: ask for less, or put more images of the class into val"
        )
    # Rounded down, so that a probability that was rounded to as many digits passes where the exact one would.
    limit = math.floor((1 - score_limit) * 10**DIGITS) / 10**DIGITS
    rank = math.ceil(round((len(own) + 1) * sensitivity, 9))
    tail = (1 - CONFIDENCE) / 2
    low, high = stats.beta.ppf([tail, 1 - tail], rank, len(own) + 1 - rank)
    return Threshold(label, sensitivity, limit, len(own), {"low": float(low), "high": float(high)})


def at_threshold(point: Threshold, classes: Sequence[str], scored: Scored) -> dict[str, Any]:
    """What a threshold gives on labelled images, beside calling each image its most probable class. `classes`: K names."""
    index = classes.index(point.label)
    return {
        **asdict(point),
        "by_threshold": detection(scored, index, scored.probabilities[:, index] >= point.limit),
        "by_argmax": detection(scored, index, scored.probabilities.argmax(1) == index),
    }


def detection(scored: Scored, index: int, called: np.ndarray) -> dict[str, Any]:
    """How well images are called a class: count, sensitivity, specificity and precision, each with n and interval, or None.

    Args:
        scored: The labelled images.
        index: The class.
        called: bool (N,), whether each is called this class.
    """
    of_class = scored.labels == index

    def share(true: np.ndarray, among: np.ndarray) -> dict[str, float] | None:
        if not among.any():
            return None
        units = np.unique(scored.units[among], return_inverse=True)[1]
        return {"n": int(among.sum()), **metrics.share(true[among], units)}

    return {
        "called": int(called.sum()),
        "sensitivity": share(called, of_class),
        "specificity": share(~called, ~of_class),
        "precision": share(of_class, called),
    }


def for_costs(asked: Predictor, scored: Scored, table: np.ndarray) -> dict[str, Any]:
    """The decisions that cost least, and what they cost on labelled images, against the most probable class.

    For two classes they are a threshold on the probability of the second, the one of the lowest cost on val. For more, each image
    gets the decision of the lowest expected cost by its calibrated probabilities, as the Bayes rule says (Elkan 2001).

    Args:
        asked: The model, of K classes.
        scored: Its answers for the labelled images.
        table: float64 (K, K), the cost of deciding the column where the row is right.
    """
    classes = asked.classes
    limit = cheapest_threshold(asked.known, table) if len(classes) == 2 else None
    if limit is None:
        decided = least_expected_cost(scored.probabilities, table)
    else:
        decided = (scored.probabilities[:, 1] >= limit).astype(np.int64)
    choices, seed = figures.settings()
    usual = scored.probabilities.argmax(1)
    by_cost, by_argmax = (table[scored.labels, chosen] for chosen in (decided, usual))
    change = figures.mean(by_cost - by_argmax, scored.units, choices.resamples, seed)
    few = len(usual) < unpaired.FEWEST_IMAGES or int(scored.units.max()) + 1 < unpaired.FEWEST_UNITS
    return {
        "class": None if limit is None else classes[1],
        "limit": limit,
        "decisions": {
            label: {"by_cost": int((decided == k).sum()), "by_argmax": int((usual == k).sum())}
            for k, label in enumerate(classes)
        },
        "by_cost": figures.mean(by_cost, scored.units, choices.resamples, seed),
        "by_argmax": figures.mean(by_argmax, scored.units, choices.resamples, seed),
        "difference": change,
        "verdict": "too few" if few else _verdict(change),
    }


def least_expected_cost(probabilities: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The decision of the lowest expected cost for each image, int64 (N,); among equal ones the most probable class.

    Args:
        probabilities: float64 (N, K).
        table: float64 (K, K), the cost of deciding the column where the row is right.
    """
    expected = (probabilities @ table).round(9)
    cheapest = expected == expected.min(1, keepdims=True)
    found: np.ndarray = np.where(cheapest, probabilities, -1.0).argmax(1)
    return found


def cheapest_threshold(known: tuple[np.ndarray, np.ndarray, np.ndarray], table: np.ndarray) -> float:
    """The threshold on the probability of the second of two classes at which the val images cost least.

    Among thresholds of the same cost it is the one nearest to that of the Bayes rule.

    Args:
        known: scores and labels of val images, (V,) each, as in `Predictor`.
        table: float64 (2, 2), the cost of deciding the column where the row is right.
    """
    scores, labels, _ = known
    second = np.where(labels == 1, 1 - scores, scores)  # the score is 1 - the probability of the right class
    levels = np.unique(second)
    bayes = _bayes_threshold(table)
    between = (levels[1:] + levels[:-1]) / 2
    candidates = np.concatenate([[0.0], between, [1 + 10.0**-DIGITS], [bayes]]).round(DIGITS)
    costs = np.array([table[labels, (second >= limit).astype(np.int64)].sum() for limit in candidates])
    best = candidates[np.isclose(costs, costs.min())]
    return float(best[np.abs(best - bayes).argmin()])


def _bayes_threshold(table: np.ndarray) -> float:
    """The probability of the second class from which deciding for it costs no more, from 0 to just above 1 (Elkan 2001)."""
    for_false, for_missed = table[0, 1] - table[0, 0], table[1, 0] - table[1, 1]
    return float(np.clip(for_false / (for_false + for_missed), 0, 1 + 10.0**-DIGITS))


def read_costs(path: Path, classes: Sequence[str]) -> np.ndarray:
    """A table of costs, float64 (K, K): actual class x decision.

    Args:
        path: A CSV with the column `actual` and one for each decision, or a YAML file `actual: {decision: cost}`.
        classes: K class names.

    Raises:
        UserError: The table cannot be read, lacks a cost, has one of an unknown class, a wrong decision costs less than the right
            one, or all decisions cost the same.
    """
    if not path.is_file():
        raise UserError(f"--costs {path} does not exist: name a CSV or YAML table of costs, actual class x decision")
    tree = params.read(path) if path.suffix.lower() in (".yaml", ".yml") else _costs_of_csv(path)
    if not isinstance(tree, dict) or not all(isinstance(row, dict) for row in tree.values()):
        raise UserError(
            f"--costs {path} is no table: it needs a line `actual class: {{decision: cost, ...}}` per class"
        )
    known = {str(label) for label in classes}
    if unknown := sorted({str(name) for row in [tree, *tree.values()] for name in row} - known):
        raise UserError(
            f"--costs {path} has the class {unknown[0]!r}, which the model does not know: it knows {', '.join(classes)}"
        )
    text = {str(actual): {str(decision): cost for decision, cost in row.items()} for actual, row in tree.items()}
    table = np.array([[_cost(path, text, actual, decision) for decision in classes] for actual in classes])
    for index, row in enumerate(table):
        if (row < row[index]).any():
            raise UserError(
                f"--costs {path}: for {classes[index]!r} a wrong decision costs less than the right one: mend it"
            )
    if (table == table[:, :1]).all():
        raise UserError(
            f"--costs {path}: all decisions cost the same, so that there is nothing to choose: say what a mistake costs"
        )
    return table


def _costs_of_csv(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
        return {row.pop(ACTUAL): row for row in rows}
    except KeyError:
        raise UserError(f"--costs {path} has no column {ACTUAL}: it needs that, and a column per decision") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--costs {path} cannot be read as a CSV in UTF-8 ({error}): mend it") from None


def _cost(path: Path, table: Mapping[str, Mapping[str, Any]], actual: str, decision: str) -> float:
    try:
        cost = float(table[actual][decision])
    except (KeyError, TypeError, ValueError):
        cost = math.nan
    if not math.isfinite(cost):
        raise UserError(
            f"--costs {path} has no number for {actual!r} decided as {decision!r}: add it, 0 for what is right"
        )
    return cost


def _verdict(change: Mapping[str, float]) -> str:
    if "low" not in change or change["low"] <= 0 <= change["high"]:
        return figures.NO_EVIDENCE
    return "cheaper" if change["value"] < 0 else "dearer"
