"""Statistics of images drawn with replacement: how far a figure, or the difference of two, is chance. Arrays in, numbers out."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from darkroom.evaluation.metrics import CONFIDENCE

CHUNK = 2**22  # images times resamples that are held at once

# A statistic of weighted images: (labels (N,), probabilities (N, K), weights (R, N)) to (R,), one value a row of weights.
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# Which answers are right: (labels (N,), probabilities (N, K)) to bool (N,).
Right = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Difference(NamedTuple):
    """A statistic of two versions on the same images, and the interval of the second minus the first."""

    base: float
    head: float
    low: float
    high: float


def intervals(
    statistics: Mapping[str, Statistic], labels: np.ndarray, probabilities: np.ndarray, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """The percentile bootstrap interval (Efron 1979) of each statistic, over images.

    Args:
        statistics: Name -> statistic of weighted images.
        labels: int64 (N,).
        probabilities: float (N, K).
        resamples: How often as many images are drawn; the same draws serve every statistic.
        seed: Of the draws.

    Returns:
        By name; NaN where the statistic is nowhere defined.
    """
    drawn = [
        {name: statistic(labels, probabilities, weights) for name, statistic in statistics.items()}
        for weights in _draws(len(labels), resamples, seed)
    ]
    return {name: _interval(np.concatenate([values[name] for values in drawn])) for name in statistics}


def differences(
    statistics: Mapping[str, Statistic],
    labels: np.ndarray,
    base: np.ndarray,
    head: np.ndarray,
    resamples: int,
    seed: int = 0,
) -> dict[str, Difference]:
    """Each statistic of both, with the interval of the difference by the paired bootstrap.

    The same images are drawn for both versions, so that what makes an image hard cancels out.

    Args:
        statistics, labels, resamples, seed: As `intervals` has them.
        base, head: Probabilities, float (N, K).

    Returns:
        By name; NaN for an interval where the statistic is nowhere defined.
    """
    changes = {name: _change(statistic, base) for name, statistic in statistics.items()}
    found = intervals(changes, labels, head, resamples, seed)
    once = np.ones((1, len(labels)))
    return {
        name: Difference(float(statistic(labels, base, once)[0]), float(statistic(labels, head, once)[0]), *found[name])
        for name, statistic in statistics.items()
    }


def _change(statistic: Statistic, base: np.ndarray) -> Statistic:
    """How much more `statistic` is than with the probabilities `base`."""
    return lambda labels, head, weights: statistic(labels, head, weights) - statistic(labels, base, weights)


def _draws(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn in each resample, int64 (some, images) at a time, `resamples` rows in all."""
    random = np.random.default_rng(seed)
    each = max(1, CHUNK // max(1, images))
    for start in range(0, resamples, each):
        yield random.multinomial(images, np.full(images, 1 / images), size=min(each, resamples - start))


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The central `CONFIDENCE` of the values that are numbers."""
    tail, finite = 50 * (1 - CONFIDENCE), values[np.isfinite(values)]
    low, high = np.percentile(finite, [tail, 100 - tail]) if len(finite) else (np.nan, np.nan)
    return float(low), float(high)


def accuracy(right: Right) -> Statistic:
    """Share of right answers."""

    def of(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weights @ right(labels, probabilities) / weights.sum(1)

    return of


def macro_f1(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """F1 of each class, averaged over all; one that is neither there nor predicted counts 0, as in `metrics.macro_f1`."""
    classes = np.arange(probabilities.shape[1])
    actual, predicted = labels[:, None] == classes, probabilities.argmax(1)[:, None] == classes
    hits, there, said = weights @ (actual & predicted), weights @ actual, weights @ predicted
    return np.divide(2 * hits, there + said, out=np.zeros(hits.shape), where=there + said > 0).mean(1)


def auroc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, averaged; NaN where a class, or the rest, is missing.

    The chance that an image of the class scores higher than one of the rest, ties counting half (Mann and Whitney 1947).
    """
    areas = []
    for label in range(probabilities.shape[1]):
        scores = probabilities[:, label]
        order = np.argsort(scores, kind="stable")
        levels = np.flatnonzero(np.diff(scores[order], prepend=-1.0))  # where images of another score begin
        own = np.add.reduceat((weights * (labels == label))[:, order], levels, axis=1)
        rest = np.add.reduceat((weights * (labels != label))[:, order], levels, axis=1)
        below = np.cumsum(rest, 1) - rest / 2
        with np.errstate(invalid="ignore"):
            areas.append((own * below).sum(1) / (own.sum(1) * rest.sum(1)))
    return np.mean(areas, 0)
