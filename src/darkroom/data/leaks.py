"""Images that are on two sides of a split, or that have two labels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from darkroom.data.layout import SIDES

BANDS = 16  # of 16 bits each; two hashes that differ in fewer than 16 bits agree in at least one band


class Pair(NamedTuple):
    """Two images, by index, and the number of bits in which their perceptual hashes differ."""

    first: int
    second: int
    distance: int


def conflicts(sha256: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Groups of images, by index, that have the same bytes and more than one label."""
    twins = defaultdict(list)
    for index, digest in enumerate(sha256):
        twins[digest].append(index)
    return [copies for copies in twins.values() if len({labels[index] for index in copies}) > 1]


def parted_copies(sha256: Sequence[str], sides: Sequence[str]) -> dict[int, int]:
    """Each image that has an exact copy on a more protected side -> that copy, by index. Test is protected most, train least."""
    most_protected: dict[str, int] = {}
    for index, digest in enumerate(sha256):
        other = most_protected.setdefault(digest, index)
        if SIDES.index(sides[index]) > SIDES.index(sides[other]):
            most_protected[digest] = index
    copies = ((index, most_protected[digest]) for index, digest in enumerate(sha256))
    return {index: other for index, other in copies if sides[index] != sides[other]}


def near_duplicates(first: Sequence[bytes], second: Sequence[bytes], distance: int) -> list[Pair]:
    """Pairs across two lists of hashes that differ in at most `distance` bits, nearest first.

    Only hashes that agree in a band are compared. By the pigeonhole principle no pair within BANDS - 1 bits is missed, and
    the work grows with the number of images, not of pairs.
    """
    assert distance < BANDS
    if not first or not second:
        return []
    left, right = (np.frombuffer(b"".join(hashes), np.uint16).reshape(-1, BANDS) for hashes in (first, second))
    found = {
        (one, other): int(apart)
        for one, others in _candidates(left, right)
        for other, apart in zip(others, np.bitwise_count(left[one] ^ right[others]).sum(1), strict=True)
        if apart <= distance
    }
    return sorted((Pair(*pair, apart) for pair, apart in found.items()), key=lambda pair: (pair.distance, pair))


def _candidates(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each row of `left` with the rows of `right` that agree with it in some band, one band after another."""
    for band in range(BANDS):
        order = np.argsort(right[:, band], kind="stable")
        values = right[order, band]
        start, end = np.searchsorted(values, left[:, band], "left"), np.searchsorted(values, left[:, band], "right")
        for row in np.flatnonzero(start < end):
            yield int(row), order[start[row] : end[row]]
