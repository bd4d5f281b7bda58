"""Small classes in hash mode: images that fill a side with none of their class, and the pins of data/sides.csv.

What moves is a unit: a group, or a content if there are no groups (`Image.unit`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from darkroom.data import assignment
from darkroom.data.assignment import Image, Ratio
from darkroom.data.layout import PINNED, SIDES
from darkroom.system import files
from darkroom.system.errors import UserError

HEADER = ("unit", "side", "path")  # the path is for people
ORDER = ("train", "test", "val")  # in which sides are filled: without train a class cannot be learned


def place(
    images: Sequence[Image], ratio: Ratio, salt: str | int, pins: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """The side of each image by its hash, unless its unit is pinned or fills a side that would have none of its class.

    A filler is the unit whose hash lies nearest to the side's interval, among those that leave no side without a class. A class
    of fewer units than there are sides goes to train. Pinned units never move.

    Returns:
        The sides, and what is said about fillers: "pinned", "not pinned", or "" for an image that is where its hash says.
    """
    labels_of: dict[str, set[str]] = defaultdict(set)
    for image in images:
        labels_of[image.unit].add(image.label)
    one_of_each = {image.unit: image for image in images}
    hashed = {unit: assignment.by_hash(image, ratio, salt) for unit, image in one_of_each.items()}
    sides = {**hashed, **{unit: side for unit, side in pins.items() if unit in hashed}}

    units_of = Counter(label for labels in labels_of.values() for label in labels)
    small = {label for label, count in units_of.items() if count < len(SIDES)}
    free = [unit for unit in sides if unit not in pins]
    sides |= dict.fromkeys((unit for unit in free if labels_of[unit] & small), "train")
    movable = {unit: labels_of[unit] for unit in free if not labels_of[unit] & small}
    distances = {unit: assignment.distances(one_of_each[unit], ratio, salt) for unit in movable}
    fill(sides, labels_of, movable, distances)

    def said(unit: str) -> str:
        return "pinned" if unit in pins else "not pinned" if sides[unit] != hashed[unit] else ""

    return [sides[image.unit] for image in images], [said(image.unit) for image in images]


def fill(
    sides: dict[str, str],
    labels_of: Mapping[str, Set[str]],
    movable: Iterable[str],
    distances: Mapping[str, Mapping[str, float]],
) -> None:
    """Move units in `sides`, in place, until each side has each class, as far as no move makes another gap.

    Args:
        sides: Unit -> its side.
        labels_of: Unit -> the classes of its images.
        movable: The units that may move.
        distances: Unit -> side -> how far the unit's hash is from it.
    """
    there = Counter((label, sides[unit]) for unit, labels in labels_of.items() for label in labels)
    candidates = defaultdict(list)
    for unit in movable:
        for label in labels_of[unit]:
            candidates[label].append(unit)
    for label in sorted(candidates):
        for side in ORDER:
            if there[label, side]:
                continue
            spare = [
                (distances[unit][side], unit)
                for unit in candidates[label]
                if all(there[other, sides[unit]] > 1 for other in labels_of[unit])
            ]
            if spare:
                _, unit = min(spare)
                for other in labels_of[unit]:
                    there[other, sides[unit]] -= 1
                    there[other, side] += 1
                sides[unit] = side


def read_pins() -> dict[str, str]:
    """Unit -> the side that data/sides.csv pins it to. Empty if there is no such file.

    Raises:
        UserError: A row has no unit or no side, or a unit has two sides.
    """
    pins: dict[str, str] = {}
    for row in files.read_csv(PINNED) if PINNED.exists() else ():
        unit, side = row.get("unit"), row.get("side")
        if not unit or side not in SIDES:
            raise UserError(
                f"{PINNED} has a row with the unit {unit!r} and the side {side!r}: a row needs a unit (the SHA-256 of an image, "
                "or a group) and one of train, val and test; mend or remove it"
            )
        if pins.setdefault(unit, side) != side:
            raise UserError(f"{PINNED} pins {unit!r} to two sides: keep one of the rows")
    return pins
