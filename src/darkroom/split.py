"""Stage split: each image to train, val or test."""

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import splitfolders
from pydantic import Field, field_validator, model_validator

from darkroom import files, params
from darkroom.errors import UserError
from darkroom.images import in_threads, list_images, open_rgb

RAW = Path("data/raw")
SIDES = ("train", "val", "test")


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

    mode: Literal["hash", "shuffle"]
    ratio: Ratio
    salt: str
    group: str | None
    seed: Annotated[int, Field(ge=0)]

    @field_validator("group")
    @classmethod
    def _compiles(cls, group: str | None) -> str | None:
        return params.pattern(group)

    @model_validator(mode="after")
    def _groups_are_hashed(self) -> "Params":
        if self.group and self.mode == "shuffle":
            raise ValueError(
                "split-folders cannot hold groups together: set split.mode to hash, or split.group to null"
            )
        return self


@dataclass(frozen=True)
class Image:
    """One row of the manifest. `path` is relative to data/raw and begins with the label."""

    path: str
    label: str
    group: str
    sha256: str


def main() -> None:
    """Read data/raw; write three folders, the manifest and the counts."""
    choices = params.load("split", Params)
    images = read_images(choices)
    sides = by_hash(images, choices) if choices.mode == "hash" else by_shuffle(images, choices)
    counts = count(images, sides)
    for side in SIDES:
        with files.new_folder(f"data/split/{side}") as folder:
            for image, own_side in zip(images, sides, strict=True):
                if own_side == side:
                    link_or_copy(RAW / image.path, folder / image.path)
    rows = [
        (image.path, image.label, side, image.group, image.sha256) for image, side in zip(images, sides, strict=True)
    ]
    files.write_csv("data/manifest.csv", ("path", "label", "split", "group", "sha256"), rows)
    files.write_json("metrics/split.json", counts)


def read_images(choices: Params) -> list[Image]:
    """What lies in data/raw, sorted by path; every file is hashed and decoded once.

    Raises:
        UserError: There is nothing, a single class, a file that is no image, or a path that the group's pattern does not fit.
    """
    if not RAW.is_dir():
        raise UserError(f"{RAW} does not exist: put a folder of images a class into it, or run `make` for the demo")
    paths = list_images(RAW)
    labels = sorted({path.split("/", 1)[0] for path in paths})
    if not paths:
        raise UserError(
            f"{RAW} holds no images: put a folder of images a class into it, or delete it and run `make` for the demo"
        )
    if len(labels) == 1:
        raise UserError(f"{RAW} has a single class, '{labels[0]}': a classifier needs two folders or more, one a class")

    def read(path: str) -> Image:
        data = (RAW / path).read_bytes()
        try:
            open_rgb(RAW / path)
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(
                f"{RAW / path} cannot be decoded ({error}): mend or remove it, then `dvc add {RAW}`"
            ) from None
        return Image(path, path.split("/", 1)[0], group_of(path, choices.group), files.sha256(data))

    return list(in_threads(read, paths))


def group_of(path: str, pattern: str | None) -> str:
    """The group that `path` names: the pattern's first group, or its whole match where it has none. "" without a pattern."""
    if pattern is None:
        return ""
    match = re.search(pattern, path)
    if match is None:
        raise UserError(
            f"split.group in params.yaml, {pattern!r}, does not match {RAW / path}: mend the pattern, or rename the file"
        )
    return match.group(1) if match.re.groups else match.group()


def by_hash(images: Sequence[Image], choices: Params) -> list[str]:
    """The side of each image, by the SHA-256 of salt and key alone: no other image has a say in it.

    The key is the image's group, or else its content, so that exact copies share a side. Test takes the low end and train
    the high one: another val ratio moves no test image.
    """

    def side(image: Image) -> str:
        digest = files.sha256(f"{choices.salt}\0{image.group or image.sha256}".encode("utf-8", "surrogateescape"))
        place = int(digest[:13], 16) / 16**13  # 52 bits: exact in a float
        if place < choices.ratio.test:
            return "test"
        return "val" if place < choices.ratio.test + choices.ratio.val else "train"

    return [side(image) for image in images]


def by_shuffle(images: Sequence[Image], choices: Params) -> list[str]:
    """The side of each image by split-folders, which sees empty files of the same names and moves them where they belong."""
    ratio = (choices.ratio.train, choices.ratio.val, choices.ratio.test)
    with tempfile.TemporaryDirectory() as temporary:
        raw, out = Path(temporary, "raw"), Path(temporary, "out")
        for image in images:
            place = raw / image.label / _flat(image)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        splitfolders.ratio(raw, out, seed=choices.seed, ratio=ratio, move=True)
        return [next(side for side in SIDES if (out / side / image.label / _flat(image)).exists()) for image in images]


def _flat(image: Image) -> str:
    """The file name that split-folders, which knows no nested folders, sees."""
    return image.path.split("/", 1)[1].replace("/", "\x01")


def count(images: Sequence[Image], sides: Sequence[str]) -> dict[str, dict[str, object]]:
    """How many images each side has, in all and of each class.

    Raises:
        UserError: A class has none on some side.
    """
    found = Counter(zip((image.label for image in images), sides, strict=True))
    labels = sorted({image.label for image in images})
    for label in labels:
        for side in SIDES:
            if not found[label, side]:
                total = sum(found[label, each] for each in SIDES)
                raise UserError(
                    f"no image of class '{label}' ({total} in {RAW / label}) falls to {side}: "
                    "add images, or change split.ratio or split.salt in params.yaml"
                )
    counts = {side: {label: found[label, side] for label in labels} for side in SIDES}
    return {side: {"total": sum(of_label.values()), "classes": of_label} for side, of_label in counts.items()}


def link_or_copy(source: Path, target: Path) -> None:
    """Give `source` a second name, or copy it where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
