"""Stage split: each usable image to train, val or test, and a report on all the others."""

import io
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import splitfolders
from pydantic import Field, field_validator, model_validator

from darkroom.data import leaks
from darkroom.data.images import open_rgb
from darkroom.data.layout import GROUPS, MANIFEST, RAW, SIDES, SPLIT
from darkroom.data.survey import Found, survey
from darkroom.pictures import split as pictures
from darkroom.system import files, params
from darkroom.system.errors import UserError

SHOWN = 12  # pairs of near duplicates in the picture


class Ratio(params.Section):
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


class Params(params.Section):
    """Section `split` of params.yaml."""

    mode: Literal["hash", "shuffle", "folders"]
    ratio: Ratio
    salt: str | int
    group: str | None
    seed: Annotated[int, Field(ge=0)]
    max_megapixels: params.Positive
    on_bad_image: Literal["skip", "fail"]
    on_conflict: Literal["report", "fail"]
    near_duplicate: Annotated[int, Field(ge=0, lt=leaks.BANDS)]

    @field_validator("group")
    @classmethod
    def _compiles(cls, group: str | None) -> str | None:
        return group if group == GROUPS.as_posix() else params.pattern(group)

    @model_validator(mode="after")
    def _groups_are_hashed(self) -> "Params":
        if self.group and self.mode != "hash":
            raise ValueError("only hash mode holds groups together: set split.mode to hash, or split.group to null")
        return self


@dataclass(frozen=True)
class Image:
    """A usable image. `path` is relative to data/raw, `place` (label/.../name) to a side of the split."""

    path: str
    place: str
    group: str
    sha256: str
    phash: bytes

    @property
    def label(self) -> str:
        """The name of its class."""
        return self.place.split("/", 1)[0]


def main() -> None:
    """Read data/raw; write three folders, the manifest, the near duplicates and the counts."""
    choices = params.load("split", Params)
    found = look(choices)
    images = usable(found, choices)
    sides = assign(images, choices)
    check_sides(images, sides)
    conflicts = look_for_conflicts(images, choices)
    pairs = near_duplicates(images, sides, choices.near_duplicate)

    for side in SIDES:
        with files.new_folder(SPLIT / side) as folder:
            for image, own_side in zip(images, sides, strict=True):
                if own_side == side:
                    link_or_copy(RAW / image.path, folder / image.place)
    write_manifest(found, images, sides)
    write_near_duplicates(images, pairs)
    reported = {
        "left_out": sum(bool(one.reason) for one in found),
        "conflicts": conflicts,
        "near_duplicates": len(pairs),
    }
    files.write_json("metrics/split.json", {**count(images, sides), **reported})


def look(choices: Params) -> list[Found]:
    """Every file of data/raw, looked at; those that cannot be used are named.

    Raises:
        UserError: There is no such folder, or there is such a file and `on_bad_image` is fail.
    """
    if not RAW.is_dir():
        raise UserError(f"{RAW} does not exist: put a folder of images a class into it, or run `make` for the demo")
    if choices.mode == "folders" and not all((RAW / side).is_dir() for side in ("train", "test")):
        raise UserError(f"split.mode is folders, but {RAW} has no train/ and test/: add them, or set another mode")
    found = survey(RAW, choices.max_megapixels, depth=2 if choices.mode == "folders" else 1)
    bad = [one for one in found if one.reason]
    if bad and choices.on_bad_image == "fail":
        raise UserError(
            f"{str(RAW / bad[0].path)!r} {bad[0].reason} (and {len(bad) - 1} files more cannot be used): "
            "mend or remove them, or set split.on_bad_image to skip in params.yaml"
        )
    for one in bad:
        print(f"left out: {str(RAW / one.path)!r} {one.reason}")
    return found


def usable(found: Sequence[Found], choices: Params) -> list[Image]:
    """The images among `found`.

    Raises:
        UserError: There are none or of a single class, one has no group, or a parted data set has another side.
    """
    group_of = grouping(choices.group)
    parted = choices.mode == "folders"
    images = [
        Image(one.path, one.path.split("/", 1)[1] if parted else one.path, group_of(one.path), one.sha256, one.phash)
        for one in found
        if not one.reason
    ]
    labels = sorted({image.label for image in images})
    if not images:
        raise UserError(
            f"{RAW} holds no images that can be used: put a folder of them a class into it, or "
            f"`git checkout data/raw.dvc && dvc checkout` to get back what was there"
        )
    depth = 1 if parted else 0
    lost = {one.path.split("/")[depth] for one in found if one.sha256 and one.reason} - set(labels)
    if lost:
        raise UserError(
            f"class '{min(lost)}' in {RAW} has no image that can be used: mend its files, or move its folder out of {RAW}"
        )
    if len(labels) == 1:
        raise UserError(f"{RAW} has a single class, '{labels[0]}': a classifier needs two folders or more, one a class")
    return images


def grouping(group: str | None) -> Callable[[str], str]:
    """A function from an image's path to the name of its group, "" where there are no groups.

    Raises:
        UserError: The table of groups cannot be read. The function raises it for a path that has no group.
    """
    if group is None:
        return lambda _: ""
    if group == GROUPS.as_posix():
        table: dict[str | None, str | None] = {}
        for row in files.read_csv(GROUPS):
            path = row.get("path") or row.get("\ufeffpath")  # Excel puts a mark before the first column's name
            if table.setdefault(path, row.get("group")) != row.get("group"):
                raise UserError(f"{GROUPS} puts {path!r} into two groups: keep one of the rows")

        def look_up(path: str) -> str:
            if not (own := table.get(path)):
                raise UserError(f"{GROUPS} has no group for {path!r}: add a row (columns path, group) for every image")
            return own

        return look_up

    def match(path: str) -> str:
        found = re.search(group, path)
        own: str | None = (found.group(1) if found.re.groups else found.group()) if found else None
        if not own:
            raise UserError(
                f"split.group in params.yaml, {group!r}, does not match {str(RAW / path)!r}: "
                "mend the pattern, or rename the file"
            )
        return own

    return match


def assign(images: Sequence[Image], choices: Params) -> list[str]:
    """The side of each image."""
    match choices.mode:
        case "hash":
            return [by_hash(image, choices) for image in images]
        case "shuffle":
            return by_shuffle(images, choices)
        case "folders":
            return [by_folder(image, choices) for image in images]


def by_hash(image: Image, choices: Params) -> str:
    """The side of an image, by the SHA-256 of salt and key alone: no other image has a say in it.

    The key is the image's group, or else its content, so that exact copies share a side. Test takes the low end and train
    the high one: another val ratio moves no test image.
    """
    where = place(image, choices.salt)
    if where < choices.ratio.test:
        return "test"
    return "val" if where < choices.ratio.test + choices.ratio.val else "train"


def by_folder(image: Image, choices: Params) -> str:
    """The side of an image of a data set that is already parted; without val/, part of train/ by hash."""
    side = image.path.split("/", 1)[0]
    if side not in SIDES:
        raise UserError(f"split.mode is folders, but {RAW / side} is none of train, val and test: move it away")
    if side == "train" and not (RAW / "val").is_dir():
        share = choices.ratio.val / (choices.ratio.train + choices.ratio.val)
        return "val" if place(image, choices.salt) < share else "train"
    return side


def place(image: Image, salt: str | int) -> float:
    """Where an image falls in [0, 1): the hash of its group or content."""
    digest = files.sha256(f"{salt}\0{image.group or image.sha256}".encode("utf-8", "surrogateescape"))
    return int(digest[:13], 16) / 16**13  # 52 bits: exact in a float


def by_shuffle(images: Sequence[Image], choices: Params) -> list[str]:
    """The side of each image by split-folders, which sees empty files of the same names and moves them where they belong."""
    ratio = (choices.ratio.train, choices.ratio.val, choices.ratio.test)
    with tempfile.TemporaryDirectory() as temporary:
        raw, out = Path(temporary, "raw"), Path(temporary, "out")
        for image in images:
            stand_in = raw / image.label / _flat(image)
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.touch()
        with redirect_stderr(io.StringIO()):  # its progress bar, of empty files
            splitfolders.ratio(raw, out, seed=choices.seed, ratio=ratio, move=True)
        return [next(side for side in SIDES if (out / side / image.label / _flat(image)).exists()) for image in images]


def _flat(image: Image) -> str:
    """The file name that split-folders, which knows no nested folders, sees."""
    name = image.place.split("/", 1)[1]
    return files.sha256(name.encode("utf-8", "surrogateescape")) if "/" in name else name


def check_sides(images: Sequence[Image], sides: Sequence[str]) -> None:
    """Refuse a split that leaves a class without images on some side.

    Raises:
        UserError: It does.
    """
    found = Counter(zip((image.label for image in images), sides, strict=True))
    for label in sorted({image.label for image in images}):
        for side in SIDES:
            if not found[label, side]:
                total = sum(found[label, each] for each in SIDES)
                raise UserError(
                    f"no image of class '{label}' ({total} in {RAW}) falls to {side}: add images of it, "
                    "or change split.ratio or split.salt in params.yaml"
                )


def look_for_conflicts(images: Sequence[Image], choices: Params) -> int:
    """How many contents stand under more than one label; each is named.

    Raises:
        UserError: There is one, and `on_conflict` is fail.
    """
    groups = leaks.conflicts([image.sha256 for image in images], [image.label for image in images])
    for group in groups:
        names = " and ".join(repr(str(RAW / images[index].path)) for index in group)
        if choices.on_conflict == "fail":
            raise UserError(
                f"{names} are the same bytes under different labels: keep the right one, "
                "or set split.on_conflict to report in params.yaml"
            )
        print(f"conflict: {names} are the same bytes under different labels")
    return len(groups)


def near_duplicates(images: Sequence[Image], sides: Sequence[str], distance: int) -> list[leaks.Pair]:
    """Pairs of a train and a test image, by their indices, that look the same."""
    train, test = ([index for index, own in enumerate(sides) if own == side] for side in ("train", "test"))
    pairs = leaks.near_duplicates([images[i].phash for i in train], [images[i].phash for i in test], distance)
    return [leaks.Pair(train[pair.first], test[pair.second], pair.distance) for pair in pairs]


def write_manifest(found: Sequence[Found], images: Sequence[Image], sides: Sequence[str]) -> None:
    """A row a file: where it went, or why nowhere."""
    side_of = {image.path: (image, side) for image, side in zip(images, sides, strict=True)}
    rows = []
    for one in found:
        if one.path in side_of:
            image, side = side_of[one.path]
            rows.append((one.path, image.label, side, image.group, one.sha256, ""))
        else:
            rows.append((one.path.replace("\r", "\\r"), "", "left out", "", one.sha256, one.reason))
    files.write_csv(MANIFEST, ("path", "label", "split", "group", "sha256", "reason"), rows)


def write_near_duplicates(images: Sequence[Image], pairs: Sequence[leaks.Pair]) -> None:
    """All pairs as CSV, the nearest as a picture."""
    rows = [(images[pair.first].path, images[pair.second].path, pair.distance) for pair in pairs]
    files.write_csv("plots/near_duplicates.csv", ("train", "test", "distance"), rows)
    shown = [
        (
            open_rgb(RAW / images[pair.first].path),
            open_rgb(RAW / images[pair.second].path),
            f"{pair.distance} bits apart",
        )
        for pair in pairs[:SHOWN]
    ]
    pictures.pairs(shown, "plots/near_duplicates.png")


def count(images: Sequence[Image], sides: Sequence[str]) -> dict[str, dict[str, object]]:
    """How many images each side has, in all, as a share, and of each class."""
    found = Counter(zip(sides, (image.label for image in images), strict=True))
    labels = sorted({image.label for image in images})
    counts = {side: {label: found[side, label] for label in labels} for side in SIDES}
    totals = {side: sum(counts[side].values()) for side in SIDES}
    return {
        side: {"total": totals[side], "share": totals[side] / len(images), "classes": counts[side]} for side in SIDES
    }


def link_or_copy(source: Path, target: Path) -> None:
    """Give `source` a second name, or copy it where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
