"""`darkroom pin`: which images are pinned, and writing them to data/sides.csv."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from darkroom.data.fillers import HEADER, read_pins
from darkroom.data.layout import PINNED, SIDES
from darkroom.data.manifest import Row
from darkroom.system import files

SMALL = 5  # units of a class on a side; with fewer, a few removals could leave the side without the class


def of_small_classes(rows: Sequence[Row]) -> list[Row]:
    """The images of the classes that have fewer than `SMALL` units (groups, or contents) on some side."""
    units = defaultdict(set)
    for row in rows:
        units[row.label, row.split].add(unit(row))
    return [row for row in rows if row.split in SIDES and any(len(units[row.label, side]) < SMALL for side in SIDES)]


def add(rows: Iterable[Row]) -> int:
    """Write the sides of images to data/sides.csv, below what it has, and return how many units are new.

    Raises:
        UserError: data/sides.csv is damaged.
    """
    known = read_pins()
    before = files.read_csv(PINNED) if PINNED.exists() else []
    paths = {unit(row): row for row in sorted(rows, key=lambda row: row.path, reverse=True) if unit(row) not in known}
    new = sorted(((name, row.split, row.path) for name, row in paths.items()), key=lambda cells: cells[2])
    files.write_csv(PINNED, HEADER, [*(tuple(row.get(column) or "" for column in HEADER) for row in before), *new])
    return len(new)


def unit(row: Row) -> str:
    """What is pinned: the image's group, or its content if it has no group."""
    return row.group or row.sha256
