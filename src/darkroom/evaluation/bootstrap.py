"""The bootstrap: intervals of metrics, and of the differences of metrics, over resampled images. Arrays in, numbers out."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from darkroom.evaluation.metrics import CONFIDENCE
from darkroom.evaluation.said import Said

CHUNK = 2**22  # images times resamples that are in memory at a time

# A statistic of weighted images: (labels (N,), what a model says, weights (R, N)) to (R,), one value per row of weights. What a
# model says is mostly `Said`; it is handed on as it is.
Statistic = Callable[[np.ndarray, Any, np.ndarray], np.ndarray]

# Which answers are right: (labels (N,), predicted (N,)) to bool (N,).
Right = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Difference(NamedTuple):
    """A statistic of two models on the same images, and the interval of head minus base."""

    base: float
    head: float
    low: float
    high: float


def intervals(
    statistics: Mapping[str, Statistic],
    labels: np.ndarray,
    said: Any,
    units: np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """The percentile bootstrap interval (Efron 1979) of each statistic.

    Groups are resampled whole. Images without groups are resampled within their classes, so that no class disappears. For few
    units the percentiles are moved outwards as Hesterberg (2015) proposes.

    Args:
        statistics: Name -> statistic of weighted images.
        labels: int64 (N,).
        said: What the statistics are of.
        units: int64 (N,), the unit of each image, from 0: its group, or the image itself.
        resamples: The number of resamples. All statistics use the same ones.
        seed: Seeds the resampling.

    Returns:
        Name -> (low, high); NaN if a resample does not define the statistic, or if all resamples give the same value.
    """
    chunks = [
        {name: statistic(labels, said, weights) for name, statistic in statistics.items()}
        for weights in _resampled_weights(labels, units, resamples, seed)
    ]
    count = int(units.max()) + 1
    return {name: _interval(np.concatenate([values[name] for values in chunks]), count) for name in statistics}


def differences(
    statistics: Mapping[str, Statistic],
    labels: np.ndarray,
    base: Any,
    head: Any,
    units: np.ndarray,
    resamples: int,
    seed: int = 0,
) -> dict[str, Difference]:
    """Each statistic of two models, with the interval of the difference by the paired bootstrap.

    Both models are resampled together, so that what makes an image hard for both cancels out.

    Args:
        statistics, labels, units, resamples, seed: As in `intervals`.
        base, head: What the statistics are of.

    Returns:
        Name -> difference; the interval is NaN as in `intervals`.
    """
    changes = {name: _change(statistic, base) for name, statistic in statistics.items()}
    found = intervals(changes, labels, head, units, resamples, seed)
    once = np.ones((1, len(labels)))
    return {
        name: Difference(float(statistic(labels, base, once)[0]), float(statistic(labels, head, once)[0]), *found[name])
        for name, statistic in statistics.items()
    }


def _change(statistic: Statistic, base: Any) -> Statistic:
    """`statistic` of head minus `statistic` of base."""
    return lambda labels, head, weights: statistic(labels, head, weights) - statistic(labels, base, weights)


def _resampled_weights(labels: np.ndarray, units: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each resample contains each image: int32 (some, images) at a time, `resamples` rows in total."""
    random = np.random.default_rng(seed)
    images, groups = len(labels), int(units.max()) + 1
    rows = max(1, CHUNK // max(1, images))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        if groups < images:
            yield random.multinomial(groups, np.full(groups, 1 / groups), size).astype(np.int32)[:, units]
        else:
            weights = np.empty((size, images), np.int32)
            for label in np.unique(labels):
                members = np.flatnonzero(labels == label)
                weights[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), size)
            yield weights


def _interval(values: np.ndarray, units: int) -> tuple[float, float]:
    """The interval between the percentiles of `values`, which hold `CONFIDENCE` for as many `units`."""
    if not np.isfinite(values).all() or units < 2 or values.min() == values.max():
        return float("nan"), float("nan")
    wider = np.sqrt(units / (units - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, units - 1)
    tail = 100 * stats.norm.sf(wider)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def accuracy(right: Right) -> Statistic:
    """Share of right answers."""

    def of(labels: np.ndarray, said: Said, weights: np.ndarray) -> np.ndarray:
        return weights @ right(labels, said.predicted) / weights.sum(1)

    return of


def macro_f1(labels: np.ndarray, said: Said, weights: np.ndarray) -> np.ndarray:
    """`metrics.macro_f1` of weighted images. A class with neither weight nor predictions counts 0."""
    classes = np.unique(labels)
    there = totals(labels, weights, classes)
    predicted = totals(said.predicted, weights, classes)
    hits = totals(labels, weights * (said.predicted == labels), classes)
    return np.divide(2 * hits, there + predicted, out=np.zeros(hits.shape), where=there + predicted > 0).mean(1)


def totals(of: np.ndarray, weights: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The total weight of each class in each row, float64 (R, C).

    Args:
        of: int64 (N,) or (R, N), the class of each image.
        weights: (R, N).
        classes: int64 (C,), those that are wanted.
    """
    rows, most = len(weights), int(max(of.max(), classes.max())) + 1
    places = np.arange(rows)[:, None] * most + of
    found = np.bincount(places.ravel(), weights.ravel(), rows * most).reshape(rows, most)
    return found.take(classes, axis=1)


def auroc(labels: np.ndarray, said: Said, weights: np.ndarray) -> np.ndarray:
    """`metrics.auroc` of weighted images; NaN if a class, or its rest, has no weight.

    The area is the probability that an image of the class scores higher than an image of the rest; ties count half (Mann
    and Whitney 1947).
    """
    assert said.probabilities is not None
    areas = []
    for label in np.unique(labels):
        scores = said.probabilities[:, label]
        members, others = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        order = others[np.argsort(scores[others], kind="stable")]
        rest = np.zeros((len(weights), len(order) + 1), weights.dtype)  # the weight of the others up to each of them
        np.cumsum(weights.take(order, axis=1), axis=1, out=rest[:, 1:])
        below, up_to = (scores[order].searchsorted(scores[members], side) for side in ("left", "right"))
        own = weights.take(members, axis=1)
        with np.errstate(invalid="ignore"):
            beaten = own * (rest.take(below, axis=1) + rest.take(up_to, axis=1)) / 2
            areas.append(beaten.sum(1) / (own.sum(1) * rest[:, -1]))
    return np.mean(areas, 0)


def linear_auroc(labels: np.ndarray, said: Said) -> tuple[float, Statistic]:
    """`metrics.auroc`, and how it changes with the weights, to first order: for large sets, for which `auroc` takes half an hour.

    Each area is a mean over the images of the class and a mean over the rest (DeLong, DeLong and Clarke-Pearson 1988). How far an
    image lies from both means is its influence; the bootstrap of their sum is that of the infinitesimal jackknife (Efron 1982).
    """
    assert said.probabilities is not None
    areas, influence = [], np.zeros(len(labels))
    for label in np.unique(labels):
        inside, scores = labels == label, said.probabilities[:, label].copy()
        members, rest = np.sort(scores[inside]), np.sort(scores[~inside])
        beaten, beaten_by = _below(rest, scores[inside]), 1 - _below(members, scores[~inside])
        areas.append(float(beaten.mean()) if len(rest) else np.nan)
        influence[inside] += (beaten - areas[-1]) / len(members)
        influence[~inside] += (beaten_by - areas[-1]) / max(1, len(rest))
    value, influence = float(np.mean(areas)), influence / len(areas)
    return value, lambda _, __, weights: value + (weights - 1) @ influence


def _below(ordered: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The share of the scores `ordered` that are below each of `scores`; equal ones count half."""
    if not len(ordered):
        return np.full(len(scores), np.nan)
    return (ordered.searchsorted(scores, "left") + ordered.searchsorted(scores, "right")) / (2 * len(ordered))
