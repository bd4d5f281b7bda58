"""The groups of the images of one side of the split: patients, slides, modules. A hidden table in the side's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from darkroom.system import files

TABLE = ".groups.csv"


def write(side: Path, group_of: Mapping[str, str]) -> None:
    """Write the group of each image, by its path in the side. If there are no groups, there is no table."""
    if any(group_of.values()):
        files.write_csv(side / TABLE, ("path", "group"), sorted(group_of.items()))


def units_of_side(side: str | Path, paths: Sequence[str]) -> np.ndarray:
    """The unit of each image, int64 (N,), from 0: its group if the side has groups, else the image itself."""
    table = Path(side) / TABLE
    if not table.exists():
        return np.arange(len(paths))
    group_of = {row["path"]: row["group"] for row in files.read_csv(table)}
    return units([group_of[path] for path in paths])


def units(groups: Sequence[str]) -> np.ndarray:
    """The unit of each image, int64 (N,), from 0, by the name of its group; without any names, the image itself."""
    if not any(groups):
        return np.arange(len(groups))
    found: np.ndarray = np.unique(np.array(groups), return_inverse=True)[1]
    return found
