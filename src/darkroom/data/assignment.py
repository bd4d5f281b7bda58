"""Which side of the split an image is assigned to, and which images form a group."""

import io
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import splitfolders
from pydantic import Field, model_validator

from darkroom.data.layout import GROUPS, RAW, SIDES
from darkroom.system import files
from darkroom.system.errors import UserError
from darkroom.system.params import Section


class Ratio(Section):
    """The share of the images that each side gets."""

    train: Annotated[float, Field(gt=0, lt=1)]
    val: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _whole(self) -> "Ratio":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}: make it 1")
        return self


@dataclass(frozen=True)
class Image:
    """An image that can be used.

    Attributes:
        path: POSIX, relative to data/raw.
        path_in_side: `class/.../name`, relative to a side of the split.
        group: The name of its group; "" if there are no groups.
        sha256: Of the file's bytes.
        phash: Its perceptual hash.
    """

    path: str
    path_in_side: str
    group: str
    sha256: str
    phash: bytes

    @property
    def label(self) -> str:
        """The name of its class."""
        return self.path_in_side.split("/", 1)[0]

    @property
    def unit(self) -> str:
        """What its hash is of: its group, or its content if it has no group."""
        return self.group or self.sha256


def by_hash(image: Image, ratio: Ratio, salt: str | int) -> str:
    """The side of an image, from the SHA-256 of the salt and its group, or its content if it has no group.

    No other image has an influence, and exact copies without a group share a side. Test takes the low end of the hashes, then
    val, then train: another val ratio moves no test image.
    """
    fraction = hash_fraction(image, salt)
    if fraction < ratio.test:
        return "test"
    return "val" if fraction < ratio.test + ratio.val else "train"


def distances(image: Image, ratio: Ratio, salt: str | int) -> dict[str, float]:
    """How far the hash of an image is from the range of each side."""
    fraction, after_val = hash_fraction(image, salt), ratio.test + ratio.val
    return {
        "test": max(0.0, fraction - ratio.test),
        "val": max(0.0, ratio.test - fraction, fraction - after_val),
        "train": max(0.0, after_val - fraction),
    }


def hash_fraction(image: Image, salt: str | int) -> float:
    """A number in [0, 1) from the hash of an image's group or content."""
    digest = files.sha256(f"{salt}\0{image.unit}".encode("utf-8", "surrogateescape"))
    return int(digest[:13], 16) / 16**13  # 52 bits: exact in a float


def by_folder(image: Image, ratio: Ratio, salt: str | int) -> str:
    """The side of an image in a data set that is split already. Without a folder val/, part of train/ becomes val by hash.

    Raises:
        UserError: The image lies in no folder of a side.
    """
    side = image.path.split("/", 1)[0]
    if side not in SIDES:
        raise UserError(f"split.mode is folders, but {RAW / side} is none of train, val and test: move it away")
    if side == "train" and not (RAW / "val").is_dir():
        share = ratio.val / (ratio.train + ratio.val)
        return "val" if hash_fraction(image, salt) < share else "train"
    return side


def by_shuffle(images: Sequence[Image], ratio: Ratio, seed: int) -> list[str]:
    """The side of each image by split-folders, which sorts empty files with the images' names."""
    with tempfile.TemporaryDirectory() as temporary:
        raw, out = Path(temporary, "raw"), Path(temporary, "out")
        for image in images:
            stand_in = raw / image.label / _flat_name(image)
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.touch()
        with redirect_stderr(io.StringIO()):  # its progress bar
            splitfolders.ratio(raw, out, seed=seed, ratio=(ratio.train, ratio.val, ratio.test), move=True)
        names = [Path(image.label, _flat_name(image)) for image in images]
        return [next(side for side in SIDES if (out / side / name).exists()) for name in names]


def _flat_name(image: Image) -> str:
    """A file name for an image in a sub-folder: split-folders knows no nested folders."""
    name = image.path_in_side.split("/", 1)[1]
    return files.sha256(name.encode("utf-8", "surrogateescape")) if "/" in name else name


def grouping(group: str | None) -> Callable[[str], str]:
    """A function from an image's path to the name of its group, which is "" if `group` is None.

    Args:
        group: data/groups.csv, or a regular expression on the path. What its first pair of parentheses matches, or else its
            whole match, is the name.

    Raises:
        UserError: The table of groups cannot be read. The function raises it for a path that has no group.
    """
    if group is None:
        return lambda _: ""
    if group == GROUPS.as_posix():
        return _grouping_by_table()

    def match(path: str) -> str:
        found = re.search(group, path)
        name: str | None = (found.group(1) if found.re.groups else found.group()) if found else None
        if not name:
            raise UserError(
                f"split.group in params.yaml, '{group}', does not match {str(RAW / path)!r}: "
                "mend the pattern, or rename the file"
            )
        return name

    return match


def _grouping_by_table() -> Callable[[str], str]:
    table: dict[str | None, str | None] = {}
    rows = files.read_csv(GROUPS)
    columns = {column for column in rows[0] if column} if rows else set()
    if rows and not {"path", "group"} <= columns:
        raise UserError(
            f"{GROUPS} has the columns {', '.join(sorted(columns))}: name them path and group in its first line"
        )
    for row in rows:
        path = row.get("path")
        if table.setdefault(path, row.get("group")) != row.get("group"):
            raise UserError(f"{GROUPS} puts {path!r} into two groups: keep one of the rows")
        if "<" in (row.get("group") or ""):
            raise UserError(f"{GROUPS} has a group with a less-than sign, {row['group']!r}: give it another name")

    def look_up(path: str) -> str:
        if not (name := table.get(path)):
            raise UserError(f"{GROUPS} has no group for {path!r}: add a row (columns path, group) for every image")
        return name

    return look_up
