"""Metrics of predictions, and tests of whether two models differ. Arrays in, numbers out."""

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score, precision_recall_fscore_support, roc_auc_score

CONFIDENCE = 0.95  # of every interval
LEVEL = 0.05  # of every test


class Reliability(NamedTuple):
    """One bin of a reliability diagram: mean confidence, share of right answers, number of images."""

    confidence: float
    accuracy: float
    images: int


class McNemar(NamedTuple):
    """How many images only the first, or only the second, of two models is right about, and the p value."""

    only_first: int
    only_second: int
    p: float


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Share of right answers, with Wilson's score interval (1927), by SciPy."""
    hits = int((labels == predicted).sum())
    interval = stats.binomtest(hits, len(labels)).proportion_ci(CONFIDENCE, method="wilson")
    return {"value": hits / len(labels), "low": interval.low, "high": interval.high}


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over classes of the F1 score. A class with neither images nor predictions counts 0."""
    classes = range(probabilities.shape[1])
    return float(f1_score(labels, probabilities.argmax(1), labels=classes, average="macro", zero_division=0))


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over classes of the area under the ROC curve against the rest; NaN if a class has no images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return float(np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in range(probabilities.shape[1])]))


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> list[Reliability]:
    """A reliability diagram: bins of equal width of the probability of the predicted class. Empty bins are left out."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    members = [bin_of == index for index in range(bins)]
    return [
        Reliability(float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in members
        if inside.any()
    ]


def ece(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    """Expected calibration error (Guo et al. 2017): the mean gap between confidence and accuracy, over images."""
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
    """The merged name of each class: what the first pair of parentheses of the pattern, or all of it, matches in the name.

    A name that does not match stays as it is.
    """
    found = [re.search(merge, label) if merge else None for label in classes]
    texts = [(match.group(1) if match.re.groups else match.group()) if match else None for match in found]
    return np.array([text or label for text, label in zip(texts, classes, strict=True)])


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact test (1947) of whether two models are equally often right; p is two-sided.

    Args:
        first, second: bool (N,), whether each model is right about each image.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    p = float(stats.binomtest(only_first, apart, 0.5).pvalue) if apart else 1.0
    return McNemar(only_first, only_second, p)


def mid_p(only_base: int, only_head: int) -> float:
    """The one-sided mid-p of McNemar's test: small if head is right less often than base.

    Args:
        only_base, only_head: The number of images about which only base, or only head, is right.

    The exact test is conservative: at a level of 5 % it rejects clearly less often. Counting half of the observed outcome
    stays close to the level (Fagerland, Lydersen and Laake 2013).
    """
    apart = only_base + only_head
    return float(stats.binom.cdf(only_head - 1, apart, 0.5) + stats.binom.pmf(only_head, apart, 0.5) / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number by Holm's method (1979), in the same order."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted
