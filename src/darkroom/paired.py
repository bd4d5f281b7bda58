"""Two models, or two versions of one, on the same images: what differs by more than chance. Arrays in, numbers out."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from darkroom.metrics import CONFIDENCE

RESAMPLES = 2000  # of the paired bootstrap; the ends of an interval then wander by about 2 % of its width
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


def differences(
    statistics: Mapping[str, Statistic], labels: np.ndarray, base: np.ndarray, head: np.ndarray, seed: int = 0
) -> dict[str, Difference]:
    """Each statistic of both, with the percentile interval of the difference by the paired bootstrap (Efron 1979).

    Images are drawn with replacement, the same ones for both versions, so that what makes an image hard cancels out, and the
    same ones for every statistic.

    Args:
        statistics: Name -> statistic of weighted images.
        labels: int64 (N,).
        base, head: Probabilities, float (N, K).
        seed: Of the draws.

    Returns:
        By name; NaN for an interval where the statistic is nowhere defined.
    """
    images, once = len(labels), np.ones((1, len(labels)))
    random = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for rows in _chunks(images):
        weights = random.multinomial(images, np.full(images, 1 / images), size=rows)
        for name, statistic in statistics.items():
            drawn[name].append(statistic(labels, head, weights) - statistic(labels, base, weights))
    found = {}
    for name, statistic in statistics.items():
        before, after = (float(statistic(labels, own, once)[0]) for own in (base, head))
        found[name] = Difference(before, after, *_interval(np.concatenate(drawn[name])))
    return found


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The central `CONFIDENCE` of the values that are numbers."""
    tail, finite = 50 * (1 - CONFIDENCE), values[np.isfinite(values)]
    low, high = np.percentile(finite, [tail, 100 - tail]) if len(finite) else (np.nan, np.nan)
    return float(low), float(high)


def _chunks(images: int) -> list[int]:
    """How many resamples to draw at a time."""
    each = max(1, min(RESAMPLES, CHUNK // max(1, images)))
    return [min(each, RESAMPLES - start) for start in range(0, RESAMPLES, each)]


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


def ece(bins: int) -> Statistic:
    """Expected calibration error (Guo et al. 2017) in so many equal bins, as in `metrics.ece`."""

    def of(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
        confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
        place = np.minimum((confidence * bins).astype(int), bins - 1)
        gaps = (confidence - right)[:, None] * np.eye(bins)[place]
        return np.abs(weights @ gaps).sum(1) / weights.sum(1)

    return of


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
