"""Stage split: each usable image to train, val or test, and a report on all other files."""

import io
import os
import re
import shutil
import tarfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from darkroom.data import archives, assignment, folds, groups, leaks, missing, samples
from darkroom.data import fillers as fillers_of_sides
from darkroom.data.assignment import Image, Ratio
from darkroom.data.images import open_rgb, shrunk
from darkroom.data.layout import GROUPS, MANIFEST, RAW, SIDES, SPLIT, in_side, is_system_file
from darkroom.data.survey import LONGEST, Found, survey, written
from darkroom.pictures import split as pictures
from darkroom.system import files, inputs, params
from darkroom.system.errors import UserError
from darkroom.system.parallel import in_threads

SHOWN = 12  # pairs of look-alikes in the picture
LISTED = 20  # lines of one kind that are printed
MANY = 1000  # pairs of look-alikes; with more, split says how to read them
UNFIT = re.compile(r'[\x00-\x1f\x7f<>"|]')  # in a class name: DVC writes them as they are into its HTML and Markdown


class Params(params.Section):
    """Section `split` of params.yaml."""

    mode: Literal["hash", "shuffle", "folders"]
    ratio: Ratio
    salt: str | int
    group: str | None
    seed: Annotated[int, Field(ge=0)]
    layout: Literal["files", "shards"]
    max_megapixels: params.Positive
    on_bad_image: Literal["skip", "fail"]
    on_conflict: Literal["report", "fail"]
    near_duplicate: Annotated[int, Field(ge=0, lt=leaks.BANDS)]
    fold: str | None = None  # for `darkroom crossval`, which sets it; params.yaml need not have it

    @field_validator("fold")
    @classmethod
    def _is_fold(cls, fold: str | None) -> str | None:
        return str(folds.read(fold)) if fold else None

    @field_validator("group")
    @classmethod
    def _compiles(cls, group: str | None) -> str | None:
        return group if group == GROUPS.as_posix() else params.pattern(group)

    @model_validator(mode="after")
    def _groups_are_hashed(self) -> "Params":
        if self.group and self.mode != "hash":
            raise ValueError("only hash mode holds groups together: set split.mode to hash, or split.group to null")
        return self


def main() -> None:
    """Read data/raw; write three folders, the manifest, the look-alikes and the counts."""
    choices = params.load("split", Params)
    missing.refuse_in_stage()
    found = survey_raw(choices)
    every = usable(found, choices)
    report_classes(every, choices)
    conflicts = report_conflicts(every, choices)
    assigned, fillers = assign(every, choices)
    copies = parted_copies(every, assigned)
    held_out = dict.fromkeys(held_out_paths(*used(every, assigned, copies), choices), folds.HELD_OUT)
    unused = {**copies, **held_out}
    reasons = {**unused, **without_train(every, assigned, unused, choices)}
    images, sides = used(every, assigned, reasons)
    check_sides(images, sides)
    check_places(images, sides)
    look_alikes = leaks.near_duplicates([image.phash for image in images], sides, choices.near_duplicate)

    write_sides(images, sides, choices.layout)
    said = {image.path: filler for image, filler in zip(every, fillers, strict=True)}
    held = [image for image in every if image.path in held_out]
    write_manifest(found, [*images, *held], [*sides, *(folds.HELD_OUT for _ in held)], said, reasons)
    write_near_duplicates(images, sides, look_alikes.pairs)
    report_look_alikes(look_alikes)
    reported = {
        "left_out": len(found) - len(images) - len(held),
        "copies": len(copies),
        "conflicts": conflicts,
        "fillers_not_pinned": report_fillers(images, said),
        "near_duplicates": {"-".join(pair): number for pair, number in look_alikes.counts.items()},
    }
    made_from = inputs.digest_now("split")
    files.write_json("metrics/split.json", {**count(sides), **reported, "made_from": made_from})


def survey_raw(choices: Params) -> list[Found]:
    """Every file of data/raw. Those that cannot be used are printed with the reason.

    Raises:
        UserError: There is no such folder, a class has an unfit name, an archive cannot be read, or a file cannot be used and
            `on_bad_image` is fail.
    """
    if not RAW.is_dir():
        raise UserError(f"{RAW} does not exist: put one folder of images per class into it, or run `make` for the demo")
    if choices.mode == "folders" and not all((RAW / side).is_dir() for side in ("train", "test")):
        raise UserError(f"split.mode is folders, but {RAW} has no train/ and test/: add them, or set another mode")
    depth = 2 if choices.mode == "folders" else 1
    found = survey(RAW, choices.max_megapixels, depth)
    check_class_names(found, depth)
    bad = [file for file in found if file.reason]
    refuse_bad(bad, choices)
    print_some([f"left out: {str(RAW / file.path)!r} {file.reason}" for file in bad], f"files: {MANIFEST} has all")
    with_files = {file.path.split("/")[0] for file in found}
    for folder in sorted(RAW.iterdir()):
        if folder.is_dir() and folder.name not in with_files and not is_system_file(folder.name):
            print(f"left out: {str(folder)!r} has no file")
    return found


def refuse_bad(bad: Sequence[Found], choices: Params) -> None:
    """Check that the files `bad`, which cannot be used, may be left out.

    Raises:
        UserError: `on_bad_image` is fail, or an archive is among them.
    """
    if bad and choices.on_bad_image == "fail":
        raise UserError(
            f"{str(RAW / bad[0].path)!r} {bad[0].reason} (and {len(bad) - 1} files more cannot be used): "
            "mend or remove them, or set split.on_bad_image to skip in params.yaml"
        )
    damaged = [file for file in bad if file.path.lower().endswith(archives.SUFFIX) and (RAW / file.path).is_file()]
    if damaged:  # a class may be lost with it
        raise UserError(
            f"{str(RAW / damaged[0].path)!r} {damaged[0].reason}: replace it, or move it out of {RAW}, if you can do without all "
            "of its images"
        )


def print_some(lines: Sequence[str], rest: str) -> None:
    """Print the first `LISTED` lines, and how many more there are. `rest` says of what, and where they are."""
    print("\n".join(lines[:LISTED]), end="\n" if lines else "")
    if len(lines) > LISTED:
        print(f"... and {len(lines) - LISTED:,} more {rest}")


def check_class_names(found: Sequence[Found], depth: int) -> None:
    """Check the names of the class folders; `depth` is the number of folders above an image.

    Raises:
        UserError: A name has a character of `UNFIT`.
    """
    folders = sorted({"/".join(file.path.split("/")[:depth]) for file in found if file.path.count("/") >= depth})
    for folder in folders:
        if UNFIT.search(folder):
            raise UserError(
                f'{str(RAW / folder)!r} is no name for a class (it holds <, >, ", | or a control character, which DVC puts into '
                f"HTML and Markdown as they are): rename this folder, or move it out of {RAW}"
            )


def usable(found: Sequence[Found], choices: Params) -> list[Image]:
    """The images among the files `found`.

    Raises:
        UserError: There are none or only one class, a class lost all its images, or an image has no group.
    """
    group_of = assignment.grouping(choices.group)
    depth = 1 if choices.mode == "folders" else 0  # of the class in the path
    images = [
        Image(
            file.path,
            in_side(file.path, samples.label_of(RAW, file.path, depth)),
            group_of(file.path),
            file.sha256,
            file.phash,
        )
        for file in found
        if not file.reason
    ]
    labels = sorted({image.label for image in images})
    check_labels(labels)
    if not images:
        raise UserError(
            f"{RAW} holds no images that can be used: put one folder of images per class into it, or "
            f"`git checkout data/raw.dvc && dvc checkout` to get back what was there"
        )
    lost = {samples.label_of(RAW, file.path, depth) for file in found if file.sha256 and file.reason} - set(labels)
    if lost:
        raise UserError(
            f"class '{min(lost)}' in {RAW} has no image that can be used: mend its files, or move its folder out of {RAW}"
        )
    if len(labels) == 1:
        raise UserError(
            f"{RAW} has a single class, '{labels[0]}': a classifier needs two folders or more, one per class"
        )
    return images


def report_classes(images: Sequence[Image], choices: Params) -> None:
    """Print the classes. Names of sides are probably no classes."""
    found = sorted(Counter(image.label for image in images).items())
    some = ", ".join(f"{label} {total:,}" for label, total in found[:LISTED])
    print(f"{len(found):,} classes (images): {some}{', ...' if len(found) > LISTED else ''}")
    if choices.mode != "folders" and {"train", "test"} <= dict(found).keys():
        print(
            f"{RAW} has the classes train and test: if they are sides of a split, set split.mode to folders in params.yaml"
        )


def check_labels(labels: Sequence[str]) -> None:
    """Check the names of classes that archives give.

    Raises:
        UserError: A folder could not have this name.
    """
    for label in labels:
        if UNFIT.search(label) or len(label.encode()) > LONGEST:
            raise UserError(
                f'an archive in {RAW} has the class {label[:50]!r} (it holds <, >, ", | or a control character, or has more than '
                f"{LONGEST} bytes): mend the archive, or move it away"
            )


def check_places(images: Sequence[Image], sides: Sequence[str]) -> None:
    """Check that no two images would be one file of a side, and that none would be a folder of another.

    Raises:
        UserError: Two would.
    """
    place_of: dict[tuple[str, str], str] = {}
    for image, side in zip(images, sides, strict=True):
        place_of.update(((side, str(folder)), image.path) for folder in PurePosixPath(image.path_in_side).parents)
    for image, side in zip(images, sides, strict=True):
        if (other := place_of.setdefault((side, image.path_in_side), image.path)) != image.path:
            raise UserError(
                f"{str(RAW / other)!r} and {str(RAW / image.path)!r} would have one place in {side}: rename one of them, or the "
                "archive that it is in"
            )


def assign(images: Sequence[Image], choices: Params) -> tuple[list[str], list[str]]:
    """The side of each image, and what is said about it as a filler: see `fillers.place`."""
    match choices.mode:
        case "hash":
            return fillers_of_sides.place(images, choices.ratio, choices.salt, fillers_of_sides.read_pins())
        case "shuffle":
            sides = assignment.by_shuffle(images, choices.ratio, choices.seed)
        case "folders":
            sides = [assignment.by_folder(image, choices.ratio, choices.salt) for image in images]
    return sides, [""] * len(images)


def parted_copies(images: Sequence[Image], sides: Sequence[str]) -> dict[str, str]:
    """Path -> reason, of the images that are left out because a more protected side has the same bytes. They are printed."""
    parted = leaks.parted_copies([image.sha256 for image in images], sides)
    reasons = {
        images[index].path: f"is an exact copy of {images[other].path!r}, which is in {sides[other]}"
        for index, other in parted.items()
    }
    lines = [f"left out: {str(RAW / path)!r} {reason}" for path, reason in reasons.items()]
    print_some(lines, f"copies: {MANIFEST} has all")
    return reasons


def held_out_paths(images: Sequence[Image], sides: Sequence[str], choices: Params) -> list[str]:
    """The paths of the images of train and val that are held out from both, because they are of the fold `choices.fold`.

    Raises:
        UserError: There are fewer units or images of a class than folds.
    """
    if not choices.fold:
        return []
    fold = folds.read(choices.fold)
    pool = [(image, side) for image, side in zip(images, sides, strict=True) if side != "test"]
    strata = [f"{side} {image.label}" for image, side in pool]  # so that val loses no more than its share of a class
    kinds = np.unique(strata, return_inverse=True)[1]
    units = folds.units([[image.sha256 for image, _ in pool], [image.group for image, _ in pool]], [], fold.total)
    if fold.total > min(int(units.max()) + 1, int(np.bincount(kinds).max())):
        raise UserError(
            f"split.fold is {fold}, but train and val have {int(units.max()) + 1} units (groups, or contents), and a side has at "
            f"most {np.bincount(kinds).max()} images of a class: take fewer folds, or add images"
        )
    learned, chosen = folds.parts(kinds, units, fold.total, seed=fold.repeat - 1)[fold.number - 1]
    trained = {image.label for image, side in (pool[index] for index in learned) if side == "train"}
    if not trained & {pool[index][0].label for index in chosen}:
        raise UserError(f"split.fold is {fold}, and outside of it train has no image of its classes: take fewer folds")
    return [pool[index][0].path for index in chosen]


def without_train(
    images: Sequence[Image], sides: Sequence[str], copies: Mapping[str, str], choices: Params
) -> dict[str, str]:
    """Path -> reason, of the images whose class has none in train, since its images are pinned to other sides or are copies.

    Raises:
        UserError: There are some in another mode than hash. Then it is rather a mistake in the data set.
    """
    images, sides = used(images, sides, copies)
    trained = {image.label for image, side in zip(images, sides, strict=True) if side == "train"}
    lost = Counter(image.label for image in images if image.label not in trained)
    for label, total in sorted(lost.items()):
        if choices.mode != "hash" and not choices.fold:
            raise UserError(
                f"no image of class '{label}' ({total} in {RAW}) falls to train: add images of it, or move its folder out of "
                f"{RAW}"
            )
        print(f"left out: class '{label}' ({total} images), because none of them is in train: add images of it")
    return {image.path: "is of a class that has no image in train" for image in images if image.label in lost}


def used(images: Sequence[Image], sides: Sequence[str], reasons: Mapping[str, str]) -> tuple[list[Image], list[str]]:
    """The images that are not left out for one of the `reasons`, by path, and their sides."""
    kept = [(image, side) for image, side in zip(images, sides, strict=True) if image.path not in reasons]
    return [image for image, _ in kept], [side for _, side in kept]


def check_sides(images: Sequence[Image], sides: Sequence[str]) -> None:
    """Print the classes of which val or test has no image.

    Raises:
        UserError: A side has images of fewer than two classes, so that nothing can be learned or measured.
    """
    found = Counter(zip((image.label for image in images), sides, strict=True))
    labels = sorted({image.label for image in images})
    for side in SIDES:
        if (count := sum(bool(found[label, side]) for label in labels)) < 2:
            raise UserError(
                f"{side} has images of {count} of the {len(labels)} classes, but it needs two: add images; of three in a class "
                "(or three groups), each side gets one"
            )
    for label in labels:
        if missing := [side for side in SIDES if not found[label, side]]:
            total = sum(found[label, side] for side in SIDES)
            print(
                f"class '{label}' ({total} images) has none in {' and '.join(missing)}: nothing is measured on it there"
            )


def report_fillers(images: Sequence[Image], said: Mapping[str, str]) -> int:
    """Print and return how many images are not where their hash says, without being pinned."""
    count = sum(said[image.path] == "not pinned" for image in images)
    if count:
        print(
            f"images that are not where their hash says, because their class is small: {count}; `darkroom pin` keeps all images "
            "of small classes where they are"
        )
    return count


def report_conflicts(images: Sequence[Image], choices: Params) -> int:
    """Print each content that has more than one label, and return how many there are.

    Raises:
        UserError: A content has two labels, and `on_conflict` is fail.
    """
    conflicts = leaks.conflicts([image.sha256 for image in images], [image.label for image in images])
    names = [" and ".join(repr(str(RAW / images[index].path)) for index in group) for group in conflicts]
    if names and choices.on_conflict == "fail":
        raise UserError(
            f"{names[0]} are the same bytes under different labels: keep the right one, "
            "or set split.on_conflict to report in params.yaml"
        )
    lines = [
        f"conflict: {one} are the same bytes under different labels; all are used until you remove some"
        for one in names
    ]
    print_some(lines, "conflicts: `darkroom review --only conflicts` shows all")
    return len(conflicts)


def report_look_alikes(found: leaks.LookAlikes) -> None:
    """Print how to read a long list of look-alikes, and where it is not complete."""
    count, listed = sum(found.counts.values()), len(found.pairs)
    if count > MANY:
        only = f" (the {listed:,} nearest are listed)" if listed < count else ""
        print(
            f"{count:,} pairs of look-alikes{only}: small and plain pictures look alike without being copies. The nearest come "
            "first in plots/near_duplicates.csv; with a lower split.near_duplicate there are fewer"
        )
    if found.crowded:
        print(
            f"{found.crowded:,} images look much like more than {leaks.CROWD:,} others, as plain ones do: not all of their "
            "look-alikes were sought"
        )


def write_sides(images: Sequence[Image], sides: Sequence[str], layout: str) -> None:
    """Write data/split/train, val and test, each with a folder per class, or with a few archives."""
    for side in SIDES:
        with files.new_folder(SPLIT / side) as folder:
            members = [image for image, assigned in zip(images, sides, strict=True) if assigned == side]
            if layout == "shards":
                write_shards(members, folder)
            else:
                for image in members:
                    link_or_copy(RAW / image.path, folder / image.path_in_side)
            groups.write(folder, {image.path_in_side: image.group for image in members})


def write_manifest(
    found: Sequence[Found],
    images: Sequence[Image],
    sides: Sequence[str],
    fillers: Mapping[str, str],
    reasons: Mapping[str, str],
) -> None:
    """A row per file: the side that it went to, or the reason why it was left out, which is in `reasons` for an image."""
    side_of = {image.path: (image, side) for image, side in zip(images, sides, strict=True)}
    rows = []
    for file in found:
        if file.path in side_of:
            image, side = side_of[file.path]
            rows.append((file.path, image.label, side, image.group, file.sha256, "", fillers[file.path]))
        else:
            rows.append((written(file.path), "", "left out", "", file.sha256, reasons.get(file.path, file.reason), ""))
    files.write_csv(MANIFEST, ("path", "label", "split", "group", "sha256", "reason", "filler"), rows)


def write_near_duplicates(images: Sequence[Image], sides: Sequence[str], pairs: Sequence[leaks.Pair]) -> None:
    """The pairs as CSV, the nearest as a picture."""
    rows = [
        (f"{sides[first]}-{sides[second]}", images[first].path, images[second].path, distance)
        for first, second, distance in pairs
    ]
    files.write_csv("plots/near_duplicates.csv", ("sides", "first", "second", "distance"), rows)
    shown = [
        (
            (shrunk(open_rgb(RAW / images[first].path), pictures.SIDE), f"{sides[first]}, {distance} bits apart"),
            (shrunk(open_rgb(RAW / images[second].path), pictures.SIDE), sides[second]),
        )
        for first, second, distance in pairs[:SHOWN]
    ]
    pictures.pairs(shown, "plots/near_duplicates.png")


def count(sides: Sequence[str]) -> dict[str, dict[str, float]]:
    """The number of images of each side, and its share. The number of each class is in the manifest."""
    found = Counter(sides)
    return {side: {"total": found[side], "share": found[side] / len(sides)} for side in SIDES}


def write_shards(images: Sequence[Image], folder: Path) -> None:
    """Write images to archives in `folder`, sorted by their paths in the side. The same images give the same bytes."""
    shards: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.path_in_side):
        shards[archives.shard_of(image.path_in_side)].append((image.path_in_side, RAW / image.path))

    def write(shard: str) -> None:
        with tarfile.open(folder / shard, "w:", format=tarfile.PAX_FORMAT) as stream:
            for name, source in shards[shard]:
                data = archives.read(source)
                header = tarfile.TarInfo(name)  # its time, owner and rights are always the same
                header.size = len(data)
                stream.addfile(header, io.BytesIO(data))

    for _ in in_threads(write, sorted(shards)):
        pass


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where that is not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if archives.archive_of(source):
        target.write_bytes(archives.read(source))
        return
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
