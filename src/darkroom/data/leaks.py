"""Images that are on two sides of a split, or that have two labels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from darkroom.data.layout import SIDES

BANDS = 16  # of 16 bits each; two hashes that differ in fewer than 16 bits agree in at least one band
# The bits of each band: one of each row and of each column of the 16 x 16 comparisons, no two side by side. Pictures with a frame
# agree in whole rows. Any odd factor gives a permutation; of those tried, 81 left the fewest comparisons.
BITS = (np.arange(256) * 81 % 256).reshape(BANDS, 16)
CROWD = 1000  # a band in which more images agree is skipped, so that each image is compared with at most 16,000
KEPT = 50_000  # of the pairs, the nearest
CHUNK = 2**18  # pairs that are compared at a time

PAIRS = (("train", "test"), ("val", "test"), ("train", "val"))  # of sides


class Pair(NamedTuple):
    """Two images, by index, and the number of bits in which their perceptual hashes differ."""

    first: int
    second: int
    distance: int


class LookAlikes(NamedTuple):
    """The pairs of images on two sides whose perceptual hashes are near each other.

    Attributes:
        pairs: The `KEPT` nearest, the nearest first. The first image of a pair is on the less protected side.
        counts: One of `PAIRS` -> the number of all its pairs.
        crowded: The number of images that agree with so many others that some of their pairs may not have been sought.
    """

    pairs: list[Pair]
    counts: dict[tuple[str, str], int]
    crowded: int


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


def near_duplicates(hashes: Sequence[bytes], sides: Sequence[str], distance: int) -> LookAlikes:
    """Pairs of images on two sides whose hashes differ in at most `distance` bits, less than `BANDS`.

    Only hashes that agree in a band are compared, so that the work grows with the number of images, not of pairs. By the
    pigeonhole principle a pair agrees in at least `BANDS - distance` bands: none is missed unless as many are skipped.
    """
    assert distance < BANDS
    words = np.frombuffer(b"".join(hashes), np.uint64).reshape(len(hashes), -1)
    codes, side = _codes(words), np.array(sides)
    counts = dict.fromkeys(PAIRS, 0)
    shape = (distance + 1, len(PAIRS), len(hashes), len(hashes))
    nearest = np.empty(0, np.int64)  # a number for each pair, in the order in which they are listed
    for which, (one, other) in enumerate(PAIRS):
        members = np.flatnonzero(side == one), np.flatnonzero(side == other)
        for left, right, apart in _near(words, codes, *members, distance):
            counts[one, other] += len(apart)
            found = np.ravel_multi_index((apart, np.full_like(left, which), left, right), shape)
            nearest = np.concatenate([nearest, found])
            if len(nearest) > 2 * KEPT:
                nearest = np.partition(nearest, KEPT)[:KEPT]
    columns = np.unravel_index(np.sort(nearest)[:KEPT], shape)
    pairs = [Pair(left, right, apart) for apart, _, left, right in np.column_stack(columns).tolist()]
    return LookAlikes(pairs, counts, int(((codes < 0).sum(1) >= BANDS - distance).sum()))


def _codes(words: np.ndarray) -> np.ndarray:
    """What each hash, uint64 (N, 4), has in each band: int32 (N, BANDS); -1 where the band is skipped."""
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    codes = np.packbits(bits.take(BITS.ravel(), axis=1), axis=1).view(np.uint16).astype(np.int32)
    for code in codes.T:
        code[np.bincount(code, minlength=2**16)[code] > CROWD] = -1
    return codes


def _near(
    words: np.ndarray, codes: np.ndarray, first: np.ndarray, second: np.ndarray, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of an image of `first` and one of `second`, and the bits between them: int64 (P,) each, some pairs at a time."""
    for band in range(BANDS):
        for rows, others in _candidates(codes[first, band], codes[second, band]):
            left, right = first[rows], second[others]
            apart = np.bitwise_count(words[left] ^ words[right]).sum(1, dtype=np.int64)
            near = apart <= distance
            left, right, apart = left[near], right[near], apart[near]
            before = codes[left, :band]
            new = ~((before == codes[right, :band]) & (before >= 0)).any(1)
            yield left[new], right[new], apart[new]


def _candidates(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs of rows that have the same code, of one band that is not skipped: about `CHUNK` at a time."""
    order = np.argsort(right, kind="stable")
    start, end = (np.searchsorted(right[order], left, side) for side in ("left", "right"))
    rows = np.flatnonzero((start < end) & (left >= 0))
    counts = (end - start)[rows]
    ends = counts.cumsum()
    for chunk in np.split(np.arange(len(rows)), np.searchsorted(ends, np.arange(CHUNK, counts.sum(), CHUNK))):
        count = counts[chunk]
        within = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
        yield np.repeat(rows[chunk], count), order[np.repeat(start[rows[chunk]], count) + within]
