"""Folds of images for cross-validation. What belongs together is in one fold, and each fold has its share of each class."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HELD_OUT = "held out"  # the side, in the manifest, of the images of the fold


class Fold(NamedTuple):
    """One of `total` folds, `number` from 1, in a division of which there is another one for each `repeat` from 1."""

    number: int
    total: int
    repeat: int = 1

    def __str__(self) -> str:
        """As `read` reads it: 2/5, or 2/5/3 for the third division."""
        return f"{self.number}/{self.total}" + (f"/{self.repeat}" if self.repeat > 1 else "")


def read(text: str) -> Fold:
    """The fold that a text as 2/5 or 2/5/3 means.

    Raises:
        ValueError: It means none.
    """
    numbers = text.split("/")
    if len(numbers) in (2, 3) and all(number.isdecimal() for number in numbers):
        fold = Fold(*map(int, numbers))
        if 1 <= fold.number <= fold.total >= 2 and fold.repeat >= 1:
            return fold
    raise ValueError(f"{text!r} is no fold: say, for example, 2/5 for the second of five")


def units(names: Sequence[Sequence[str]], pairs: Sequence[tuple[int, int]], folds: int) -> np.ndarray:
    """The unit of each of N images, int (N,), from 0. What belongs together is in one fold.

    Args:
        names: Kinds of N names each, such as content and group. Images with the same name belong together; "" is none.
        pairs: Look-alikes, by index, which belong together as well. If chains of them make a unit larger than a fold, they are
            left out: then all pictures look alike, and the pairs say little.
        folds: Their number.
    """
    count = len(names[0])
    links = [(index, index) for index in range(count)]
    for kind in names:
        first: dict[str, int] = {}
        links += [(index, first.setdefault(name, index)) for index, name in enumerate(kind) if name]
    joined = _joined([*links, *pairs], count)
    return joined if np.bincount(joined).max() <= count / folds else _joined(links, count)


def _joined(links: Sequence[tuple[int, int]], count: int) -> np.ndarray:
    from scipy.sparse import coo_array  # slow to import, as scikit-learn is, and most splits have no folds
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(links), bool), np.array(links).T), (count, count))
    found: np.ndarray = connected_components(graph, directed=False)[1]
    return found


def parts(labels: np.ndarray, units: np.ndarray, folds: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """The indices of train and test of each fold (scikit-learn's StratifiedGroupKFold).

    Args:
        labels: int64 (N,), the class of each image.
        units: int (N,). The images of a unit are in one fold.
        folds: Their number: at most that of the units, and of the images of the largest class.
        seed: Of the order in which units are given to folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds is no error
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        return list(splitter.split(labels, labels, units))
