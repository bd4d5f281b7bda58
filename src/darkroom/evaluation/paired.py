"""Paired tests of two models on the same images. The unit is the group, or the image where there are no groups.

If two models are equally good, exchanging their answers within a unit does not change the distribution of a difference. The p
value of a difference is therefore its rank among the differences after random exchanges: the paired randomisation test (Fisher
1935, Noreen 1989). For a share of right answers its distribution is computed exactly; if each unit is one image, that is
McNemar's test.

All p values are mid-p values: the observed difference counts half. The exact test is conservative: it rejects clearly less
often than its level says (Fagerland, Lydersen and Laake 2013). If no exchange changes anything, as for a model compared with
itself, p is 1, as in the exact test.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from darkroom.evaluation.bootstrap import totals
from darkroom.evaluation.metrics import bin_of
from darkroom.evaluation.said import Said

EXCHANGES = 1000  # random exchanges; a p value of 0.05 then has a standard error of 0.007
CHUNK = 2**22  # images times exchanges that are in memory at a time

# A metric after exchanges: (labels (N,), what the first says, what the second says, swapped bool (R, N)) to (R,). In each row it
# is the metric of the first model with the answers of the second for the images that are swapped.
Exchanged = Callable[[np.ndarray, Said, Said, np.ndarray], np.ndarray]


class PValues(NamedTuple):
    """Mid-p values of the hypothesis that both models are equally good; NaN if the metric is not defined.

    Attributes:
        two_sided: Small if head is better or worse.
        less: Small if the metric of head is lower.
    """

    two_sided: float
    less: float


def accuracy_test(base: np.ndarray, head: np.ndarray, units: np.ndarray) -> PValues:
    """The test of two shares of right answers, over all exchanges.

    Args:
        base, head: bool (N,), whether each model is right about each image.
        units: int64 (N,), the unit of each image, from 0.
    """
    differences = np.bincount(units, head.astype(np.int64) - base).round().astype(np.int64)
    probabilities = np.ones(1)  # of each sum of the differences with random signs, from the lowest sum to the highest
    for size, count in Counter(np.abs(differences[differences != 0]).tolist()).items():
        part = np.zeros(2 * size * count + 1)
        part[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        probabilities = np.convolve(probabilities, part)
    sums = np.arange(len(probabilities)) - len(probabilities) // 2
    return _mid_p(sums, int(differences.sum()), probabilities)


def metric_tests(
    metrics: Mapping[str, Exchanged],
    labels: np.ndarray,
    base: Said,
    head: Said,
    units: np.ndarray,
    seed: int = 0,
) -> dict[str, PValues]:
    """The tests of several metrics that are no shares of images, over random exchanges.

    Args:
        metrics: Name -> metric after exchanges.
        labels: int64 (N,).
        base, head: What the models say about the images.
        units: int64 (N,), the unit of each image, from 0.
        seed: Seeds the exchanges. All metrics use the same ones.
    """
    random = np.random.default_rng(seed)
    chunks: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    rows = max(1, CHUNK // len(labels))
    none = np.zeros((1, len(labels)), bool)
    for start in range(0, EXCHANGES, rows):
        swapped = (random.random((min(rows, EXCHANGES - start), units.max() + 1)) < 0.5)[:, units]
        swapped = swapped if start else np.vstack([none, swapped])  # the first row is the observed difference
        for name, metric in metrics.items():
            chunks[name].append(metric(labels, head, base, swapped) - metric(labels, base, head, swapped))
    # Sums in another order differ in the last bits; equal differences must count as equal.
    values = {name: np.concatenate(parts).round(12) for name, parts in chunks.items()}
    share = np.full(EXCHANGES + 1, 1 / (EXCHANGES + 1))
    return {name: _mid_p(found, float(found[0]), share) for name, found in values.items()}


def _mid_p(values: np.ndarray, observed: float, probabilities: np.ndarray) -> PValues:
    """The rank of `observed` among `values`; equal values count half."""
    if not np.isfinite(values).all():
        return PValues(np.nan, np.nan)
    if values.min() == values.max():  # the mid-p would be 0.5, which reads as if it were evidence
        return PValues(1.0, 1.0)

    def beyond(of: np.ndarray, limit: float) -> float:
        return float(probabilities[of > limit].sum() + probabilities[of == limit].sum() / 2)

    return PValues(beyond(np.abs(values), abs(observed)), beyond(-values, -observed))


def macro_f1(labels: np.ndarray, first: Said, second: Said, swapped: np.ndarray) -> np.ndarray:
    """`metrics.macro_f1` after exchanges."""
    classes = np.unique(labels)
    predicted = np.where(swapped, second.predicted, first.predicted)
    hits = totals(labels, predicted == labels, classes)
    total = totals(predicted, np.ones(predicted.shape), classes) + np.bincount(labels)[classes]
    return np.divide(2 * hits, total, out=np.zeros(hits.shape), where=total > 0).mean(1)


def auroc(labels: np.ndarray, first: Said, second: Said, swapped: np.ndarray) -> np.ndarray:
    """`metrics.auroc` after exchanges: pairs of images that are ordered rightly (Mann and Whitney 1947).

    All scores are sorted once, and each row counts along that order. To sort each row again would take seven times as long.
    """
    assert first.probabilities is not None
    assert second.probabilities is not None
    chosen = np.hstack([~swapped, swapped])
    areas = []
    for label in np.unique(labels):
        inside = np.tile(labels == label, 2)
        members, others = np.flatnonzero(inside), np.flatnonzero(~inside)
        if not (len(members) and len(others)):
            return np.full(len(swapped), np.nan)
        scores = np.concatenate([first.probabilities[:, label], second.probabilities[:, label]])
        order = others[scores[others].argsort()]
        rest = np.zeros(
            (len(swapped), len(order) + 1), np.int32
        )  # how many of the others are chosen up to each of them
        np.cumsum(chosen.take(order, axis=1), axis=1, out=rest[:, 1:])
        below, up_to = (scores[order].searchsorted(scores[members], side) for side in ("left", "right"))
        beaten = (rest.take(below, axis=1) + rest.take(up_to, axis=1)) / 2  # an equal score counts half
        areas.append((beaten * chosen.take(members, axis=1)).sum(1) / (len(members) * len(others) / 4))
    return np.mean(areas, 0)


def ece(bins: int) -> Exchanged:
    """`metrics.ece` after exchanges."""

    def gaps(labels: np.ndarray, said: Said) -> np.ndarray:
        gap = said.confidence - (said.predicted == labels)
        return (bin_of(said.confidence, bins)[:, None] == np.arange(bins)) * gap[:, None]

    def of(labels: np.ndarray, first: Said, second: Said, swapped: np.ndarray) -> np.ndarray:
        return np.abs(_sums(gaps(labels, first), gaps(labels, second), swapped)).sum(1) / len(labels)

    return of


def _sums(first: np.ndarray, second: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """Sums over images, float (R, C), of `first` (N, C), or of `second` for the images that are swapped."""
    return first.sum(0) + swapped @ (second - first)
