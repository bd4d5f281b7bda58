"""The file in which `darkroom labels` ranks the images by how wrong their labels look. Pages and `darkroom review` read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from darkroom.system import files
from darkroom.system.errors import UserError

SUSPECTS = Path("report/suspects.csv")  # ignored by Git
NEIGHBOURS = 5


class Suspect(NamedTuple):
    """An image, and how wrong its label looks.

    Attributes:
        path: In data/raw.
        sha256: Of its content.
        split: "train", "val" or "test".
        label: The class that it has.
        suggested: The class that looks most probable.
        score: The probability of the label, from 0 to 1; the lower, the more it looks wrong. 1 if it cannot be judged.
        suspect: Whether confident learning counts the label as wrong.
        neighbours: Paths of the images that look most like it, the nearest first. Only suspects have some.
    """

    path: str
    sha256: str
    split: str
    label: str
    suggested: str
    score: float
    suspect: bool
    neighbours: tuple[str, ...] = ()


HEADER = (*Suspect._fields[:-1], *(f"neighbour_{number}" for number in range(1, NEIGHBOURS + 1)))


def write(ranked: Sequence[Suspect]) -> None:
    """Write all images, the most suspicious first."""
    rows = [
        (*one[:-2], int(one.suspect), *one.neighbours, *[""] * (NEIGHBOURS - len(one.neighbours))) for one in ranked
    ]
    files.write_csv(SUSPECTS, HEADER, rows)


def read() -> list[Suspect]:
    """All images, the most suspicious first.

    Raises:
        UserError: `darkroom labels` has not been run, or the file is damaged.
    """
    if not SUSPECTS.exists():
        raise UserError(
            f"{SUSPECTS} does not exist: run `darkroom labels`, which ranks the images by how wrong they look"
        )
    try:
        return [_parsed(row) for row in files.read_csv(SUSPECTS)]
    except (KeyError, ValueError):
        raise UserError(f"{SUSPECTS} is damaged: run `darkroom labels` again") from None


def _parsed(row: dict[str, str]) -> Suspect:
    neighbours = tuple(filter(None, (row[name] for name in HEADER[-NEIGHBOURS:])))
    path, sha256, split, label, suggested = (row[name] for name in HEADER[:5])
    return Suspect(path, sha256, split, label, suggested, float(row["score"]), row["suspect"] == "1", neighbours)
