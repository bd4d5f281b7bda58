"""Images that sit on both sides of a split, or under two labels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

BANDS = 16  # of 16 bits each; two hashes that differ in fewer than 16 bits agree in one band at least


class Pair(NamedTuple):
    """Two images, by index, and in how many bits their perceptual hashes differ."""

    first: int
    second: int
    distance: int


def conflicts(sha256: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Groups of images, by index, that are the same bytes under more than one label."""
    twins = defaultdict(list)
    for index, digest in enumerate(sha256):
        twins[digest].append(index)
    return [own for own in twins.values() if len({labels[index] for index in own}) > 1]


def near_duplicates(first: Sequence[bytes], second: Sequence[bytes], distance: int) -> list[Pair]:
    """Pairs across two lists of hashes that differ in at most `distance` bits, nearest first.

    Only hashes that agree in a band are compared: by the pigeonhole principle no pair within BANDS - 1 bits is missed, and
    the work grows with the number of images rather than of pairs.
    """
    assert distance < BANDS
    if not first or not second:
        return []
    ours, theirs = (np.frombuffer(b"".join(hashes), np.uint16).reshape(-1, BANDS) for hashes in (first, second))
    found = {
        (one, other): int(apart)
        for one, others in _candidates(ours, theirs)
        for other, apart in zip(others, np.bitwise_count(ours[one] ^ theirs[others]).sum(1), strict=True)
        if apart <= distance
    }
    return sorted((Pair(*pair, apart) for pair, apart in found.items()), key=lambda pair: (pair.distance, pair))


def _candidates(ours: np.ndarray, theirs: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each of `ours` with those of `theirs` that agree with it in some band, a band at a time."""
    for band in range(BANDS):
        order = np.argsort(theirs[:, band], kind="stable")
        values = theirs[order, band]
        low, high = np.searchsorted(values, ours[:, band], "left"), np.searchsorted(values, ours[:, band], "right")
        for one in np.flatnonzero(low < high):
            yield int(one), order[low[one] : high[one]]
