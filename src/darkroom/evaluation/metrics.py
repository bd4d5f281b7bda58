"""Figures of merit of predictions, each with its uncertainty. Arrays in, numbers out."""

import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score, precision_recall_fscore_support, roc_auc_score

CONFIDENCE = 0.95  # of every interval
LEVEL = 0.05  # of every test


class Reliability(NamedTuple):
    """One bin of a reliability diagram: its mean confidence, its share of right answers, how many images it holds."""

    confidence: float
    accuracy: float
    images: int


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Share of right answers, with Wilson's score interval (1927), as SciPy has it."""
    hits = int((labels == predicted).sum())
    interval = stats.binomtest(hits, len(labels)).proportion_ci(CONFIDENCE, method="wilson")
    return {"value": hits / len(labels), "low": interval.low, "high": interval.high}


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """F1 of each class, averaged over all classes; a class that is neither there nor predicted counts 0."""
    classes = range(probabilities.shape[1])
    return float(f1_score(labels, probabilities.argmax(1), labels=classes, average="macro", zero_division=0))


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve of each class against the rest, averaged over the classes. NaN where a class is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return float(np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in range(probabilities.shape[1])]))


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> list[Reliability]:
    """The bins (equal in width, empty ones left out) of the confidence of the predicted class."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    members = [place == index for index in range(bins)]
    return [
        Reliability(float(confidence[own].mean()), float(right[own].mean()), int(own.sum()))
        for own in members
        if own.any()
    ]


def ece(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    """Expected calibration error (Guo et al. 2017): mean gap of confidence and accuracy, weighted by the bins' counts."""
    rows = reliability(labels, probabilities, bins)
    return sum(row.images * abs(row.confidence - row.accuracy) for row in rows) / len(labels)


def per_class(labels: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of each class: scikit-learn's classification report."""
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(1), labels=range(len(classes)), average=None, zero_division=0
    )
    names = ("precision", "recall", "f1", "support")
    return {
        label: dict(zip(names, row, strict=True))
        for label, row in zip(classes, zip(*columns, strict=True), strict=True)
    }


def merge_classes(classes: list[str], merge: str | None) -> np.ndarray:
    """The name that each class counts under: what the pattern's first group finds in it, or its own where it finds nothing."""
    found = [re.search(merge, label) if merge else None for label in classes]
    texts = [(match.group(1) if match.re.groups else match.group()) if match else None for match in found]
    return np.array([text or label for text, label in zip(texts, classes, strict=True)])


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """McNemar's exact test (1947) of whether two models, of which each answer is right or not, are equally often right.

    Args:
        first, second: bool (N,), whether each model is right on each image.

    Returns:
        How many images only one of them has right, the two-sided p, and which is better: first, second or neither.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    p = float(stats.binomtest(only_first, apart, 0.5).pvalue) if apart else 1.0
    better = "neither" if p >= LEVEL else "first" if only_first > only_second else "second"
    return {"only_first": only_first, "only_second": only_second, "p": p, "better": better}


def mid_p(only_base: int, only_head: int) -> float:
    """One-sided mid-p of McNemar's test that head is right no less often than base: small when it is right less often.

    Args:
        only_base, only_head: How many images only the one, or only the other, has right.

    The exact test is too careful: at a level of 5 % it fires in clearly fewer cases. Counting half of the observed outcome
    keeps close to the level (Fagerland, Lydersen and Laake 2013).
    """
    apart = only_base + only_head
    return float(stats.binom.cdf(only_head - 1, apart, 0.5) + stats.binom.pmf(only_head, apart, 0.5) / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number by Holm's method (1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted
