"""Metrics of predictions, and tests of whether two models differ. Arrays in, numbers out."""

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score, precision_recall_fscore_support, roc_auc_score

from darkroom.evaluation.per_class import FEW, Classes, OfClass
from darkroom.evaluation.said import Said

CONFIDENCE = 0.95  # of every interval
LEVEL = 0.05  # of every test
POINTS = 200  # of a risk-coverage curve


class Reliability(NamedTuple):
    """One bin of a reliability diagram: mean confidence, share of right answers, number of images."""

    confidence: float
    accuracy: float
    images: int


def accuracy(labels: np.ndarray, predicted: np.ndarray, units: np.ndarray) -> dict[str, float]:
    """The `share` of right answers. `labels`, `predicted`: (N,), the classes."""
    return share(labels == predicted, units)


def share(true: np.ndarray, units: np.ndarray) -> dict[str, float]:
    """A share of images, with Wilson's score interval (1927) for the effective number of images.

    Args:
        true: bool (N,).
        units: int64 (N,), the unit of each image, from 0: its group, or the image itself.
    """
    value, count = float(true.mean()), effective_count(true, units)
    low, high = wilson(value, count, stats.norm.ppf((1 + CONFIDENCE) / 2))
    return {"value": value, "low": max(0.0, low), "high": min(1.0, high)}


def wilson(share: float, count: float, z: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share of `count` independent images, as far as `z` standard deviations."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return float(centre - half), float(centre + half)


def effective_count(right: np.ndarray, units: np.ndarray) -> float:
    """The number of independent images that tell as much about a share as these images, which come in groups.

    It is the number of images over the design effect (Kish 1965), reduced for few groups by the t distribution (Korn and
    Graubard 1998). For the design effect, two pseudo groups of half the mean size are added, one all right and one all wrong:
    otherwise it is far too low where nearly all groups are all right.
    """
    groups = int(units.max()) + 1
    if groups == len(right):
        return float(groups)
    if groups == 1:
        return 1.0
    sizes = np.bincount(units).astype(np.float64)
    half = sizes.mean() / 2
    hits, sizes = np.append(np.bincount(units, right), [half, 0.0]), np.append(sizes, [half, half])
    total, number = sizes.sum(), len(sizes)
    share = hits.sum() / total
    variance = number / (number - 1) * ((hits - sizes * share) ** 2).sum() / total**2
    effect = max(1.0, variance * total / (share * (1 - share)))
    few = stats.norm.ppf((1 + CONFIDENCE) / 2) / stats.t.ppf((1 + CONFIDENCE) / 2, groups - 1)
    return float(len(right) / effect * few**2)


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the F1 score over the classes that have images."""
    return float(f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0))


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of the area under the ROC curve against the rest, over the classes that have images; NaN if only one has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return float(np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in np.unique(labels)]))


def log_loss(said: Said) -> float:
    """Mean cross-entropy in nats; the probabilities are clipped as scikit-learn clips them."""
    return float(losses(said).mean())


def losses(said: Said) -> np.ndarray:
    """The cross-entropy of each image in nats, float64 (N,)."""
    return -np.log(said.of_label.clip(np.finfo(np.float64).eps))


def reliability(labels: np.ndarray, said: Said, bins: int) -> list[Reliability]:
    """A reliability diagram: bins of equal width of the probability of the predicted class. Empty bins are left out."""
    confidence, right = said.confidence, said.predicted == labels
    found = bin_of(confidence, bins)
    members = [found == index for index in range(bins)]
    return [
        Reliability(float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in members
        if inside.any()
    ]


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The index of the bin, of `bins` of equal width, of each confidence: int64 (N,)."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def ece(labels: np.ndarray, said: Said, bins: int) -> float:
    """Expected calibration error (Guo et al. 2017): the mean gap between confidence and accuracy, over images."""
    rows = reliability(labels, said, bins)
    return sum(row.images * abs(row.confidence - row.accuracy) for row in rows) / len(labels)


def per_class(labels: np.ndarray, predicted: np.ndarray, units: np.ndarray, classes: Sequence[str]) -> Classes:
    """Each class: scikit-learn's classification report, and the interval of the recall as that of the accuracy.

    Args:
        labels: int64 (N,), the classes that the images have.
        predicted: int64 (N,), the classes that the model predicts.
        units: int64 (N,), the unit of each image, from 0: its group, or the image itself.
        classes: The class names.
    """
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(len(classes)), average=None, zero_division=0
    )
    found = {}
    for k, label in enumerate(classes):
        members, count = labels == k, int(support[k])
        called = float(precision[k]) if (predicted == k).any() else None
        if not count:
            found[label] = OfClass(0, None, None, None, called, None, "few")
            continue
        of_members = np.unique(units[members], return_inverse=True)[1]
        interval = accuracy(labels[members], predicted[members], of_members)
        few = "few" if count < FEW else ""
        found[label] = OfClass(count, float(recall[k]), interval["low"], interval["high"], called, float(f1[k]), few)
    return found


def merge_classes(classes: list[str], merge: str | None) -> np.ndarray:
    """The merged name of each class: what the first pair of parentheses of the pattern, or all of it, matches in the name.

    A name that does not match stays as it is.
    """
    found = [re.search(merge, label) if merge else None for label in classes]
    texts = [(match.group(1) if match.re.groups else match.group()) if match else None for match in found]
    return np.array([text or label for text, label in zip(texts, classes, strict=True)])


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number by Holm's method (1979), in the same order."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def risk_coverage(right: np.ndarray, confidence: np.ndarray) -> list[tuple[float, float]]:
    """The share of wrong answers among the surest images, for at most `POINTS` shares of images (El-Yaniv and Wiener 2010).

    Args:
        right: bool (N,).
        confidence: float (N,).

    Returns:
        (share that is answered, share of these that is wrong), from few to all images.
    """
    wrong = np.cumsum(~right[np.argsort(-confidence, kind="stable")])
    counts = np.unique(np.linspace(1, len(right), min(POINTS, len(right))).round().astype(np.int64))
    return [(count / len(right), float(wrong[count - 1] / count)) for count in counts.tolist()]
