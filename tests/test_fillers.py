"""Small classes: a set of 3 to 247 images a class works at once, and goes on working when images come and go."""

import random
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from conftest import darkroom, read_csv, read_json, set_params, stage
from darkroom.data import assignment, fillers, pin
from darkroom.data.assignment import Image, Ratio
from darkroom.data.layout import SIDES
from darkroom.data.manifest import Row
from darkroom.system import files
from darkroom.system.errors import UserError

pytestmark = pytest.mark.fast

SIZES = [3, 4, 5, 6, 8, 10, 12, 15, 20, 26, 35, 50, 77, 120, 180, 247]
RATIO = Ratio(train=0.65, val=0.10, test=0.25)


def images_of(sizes: Sequence[int], start: int = 0, groups: int = 0) -> list[Image]:
    """Images of a class for each size. With `groups`, each is in one of them, and a group has images of many classes."""
    found = []
    for label, size in enumerate(sizes):
        for index in range(start, start + size):
            path = f"class-{label:02}/{index}.png"
            group = f"patient-{(7 * index + label) % groups}" if groups else ""
            found.append(Image(path, path, group, files.sha256(path.encode()), b""))
    return found


def gaps(images: Sequence[Image], sides: Sequence[str]) -> set[tuple[str, str]]:
    """(class, side) of the classes of which a side has no image."""
    there = Counter((image.label, side) for image, side in zip(images, sides, strict=True))
    return {(label, side) for label in {image.label for image in images} for side in SIDES if not there[label, side]}


def pinned(images: Iterable[Image], sides: Iterable[str]) -> dict[str, str]:
    """What `darkroom pin` would write."""
    both = zip(images, sides, strict=True)
    rows = [Row(image.path, image.label, side, image.sha256, "", image.group) for image, side in both]
    return {pin.unit(row): row.split for row in pin.of_small_classes(rows)}


@pytest.mark.parametrize("groups", [0, 60])
def test_every_side_has_every_class_under_any_salt(groups: int) -> None:
    images = images_of(SIZES, groups=groups)
    refused_before = 0
    for salt in range(200):
        sides, said = fillers.place(images, RATIO, salt, {})
        assert not gaps(images, sides)
        hashed = [assignment.by_hash(image, RATIO, salt) for image in images]
        refused_before += bool(gaps(images, hashed))
        for side, by_hash, word in zip(sides, hashed, said, strict=True):
            assert word == ("not pinned" if side != by_hash else "")
        assert len({(image.unit, side) for image, side in zip(images, sides, strict=True)}) == len(
            {i.unit for i in images}
        )
    assert refused_before > 150


def test_the_filler_is_the_image_whose_hash_is_nearest() -> None:
    images = images_of([100])
    in_train = [image for image in images if assignment.by_hash(image, RATIO, 1) == "train"][:20]
    sides, said = fillers.place(in_train, RATIO, 1, {})
    lowest = sorted(in_train, key=lambda image: assignment.hash_fraction(image, 1))
    moved = {image.path: side for image, side, word in zip(in_train, sides, said, strict=True) if word}
    assert moved == {lowest[0].path: "test", lowest[1].path: "val"}
    again, _ = fillers.place(in_train[::-1], RATIO, 1, {})
    assert again[::-1] == sides


@pytest.mark.parametrize("groups", [0, 60])
@pytest.mark.parametrize("seed", range(3))
def test_pinned_images_never_move_when_images_come_and_go(seed: int, groups: int) -> None:
    """And what is neither a filler nor a neighbour of one stays where its hash says."""
    draw = random.Random(seed)
    every = images_of([size + 40 for size in SIZES], groups=groups)
    here = [image for image in every if int(Path(image.path).stem) < SIZES[int(image.label[-2:])]]
    pins: dict[str, str] = {}
    for _ in range(40):
        sides, said = fillers.place(here, RATIO, seed, pins)
        for image, side, word in zip(here, sides, said, strict=True):
            if image.unit in pins:
                assert (side, word) == (pins[image.unit], "pinned")
            elif not word:
                assert side == assignment.by_hash(image, RATIO, seed)
        units = {label: {i.unit for i in here if i.label == label} for label in {i.label for i in here}}
        for label, side in gaps(here, sides):
            free = units[label] - pins.keys()
            assert len(units[label]) < 3 or len(free) < 3 or groups, (label, side, units[label], pins)
        pins |= {unit: side for unit, side in pinned(here, sides).items() if unit not in pins}
        assert fillers.place(here, RATIO, seed, pins)[0] == sides  # pinning moves nothing
        paths = {image.path for image in here}
        here = [image for image in every if draw.random() < (0.9 if image.path in paths else 0.05)]


@pytest.mark.parametrize("salt", range(5))
def test_no_removal_moves_an_image_of_a_pinned_class(salt: int) -> None:
    """Classes of 3 to 35 images: whichever image goes, every other one stays."""
    images = images_of(SIZES[:11])
    before, _ = fillers.place(images, RATIO, salt, {})
    pins = pinned(images, before)
    for gone in range(len(images)):
        after, _ = fillers.place(images[:gone] + images[gone + 1 :], RATIO, salt, pins)
        assert after == before[:gone] + before[gone + 1 :]


def test_one_or_two_images_of_a_class_go_to_train() -> None:
    images = images_of([1, 2, 50])
    for salt in range(50):
        sides, said = fillers.place(images, RATIO, salt, {})
        assert sides[:3] == ["train"] * 3
        for image, side, word in zip(images, sides, said, strict=True):
            assert word == ("" if side == assignment.by_hash(image, RATIO, salt) else "not pinned")


def write_classes(raw: Path, sizes: Sequence[int]) -> None:
    """Noise of another brightness for each class."""
    generator = np.random.default_rng(0)
    for label, size in enumerate(sizes):
        folder = raw / f"class-{label:02}"
        folder.mkdir(parents=True)
        for index in range(size):
            pixels = generator.integers(0, 100, (16, 16)) + 150 * label // len(sizes)
            Picture.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:03}.png")


def manifest() -> dict[str, dict[str, str]]:
    return {row["path"]: row for row in read_csv(Path("data/manifest.csv"))}


def pin_all() -> int:
    """`darkroom pin`, without Git, which a fast test does not start."""
    return pin.add(pin.of_small_classes([Row(*(row[name] for name in Row._fields)) for row in manifest().values()]))


def test_sixteen_classes_of_3_to_247_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At first try; after pinning; after what was pinned was renamed, and images went and came."""
    shutil.rmtree(folder / "data/raw")
    write_classes(folder / "data/raw", SIZES)
    stage("split")
    counts, first = read_json(folder / "metrics/split.json"), manifest()
    assert {(row["split"], row["label"]) for row in first.values()} >= {
        (side, f"class-{label:02}") for side in SIDES for label in range(16)
    }
    extra = [row for row in first.values() if row["filler"]]
    assert {row["filler"] for row in extra} == {"not pinned"}
    assert counts["fillers_not_pinned"] == len(extra) > 0
    assert f"because their class is small: {len(extra)}; `darkroom pin`" in capsys.readouterr().out

    assert pin_all() > len(extra)
    assert pin_all() == 0
    stage("split")
    assert read_json(folder / "metrics/split.json")["fillers_not_pinned"] == 0
    assert {path: row["split"] for path, row in manifest().items()} == {
        path: row["split"] for path, row in first.items()
    }
    assert "their hash says" not in capsys.readouterr().out

    renamed = extra[0]["path"].replace(".png", "-renamed.png")
    (folder / "data/raw" / extra[0]["path"]).rename(folder / "data/raw" / renamed)
    goes = next(row for row in first.values() if row["split"] == "val" and row["path"].startswith("class-05"))
    (folder / "data/raw" / goes["path"]).unlink()
    write_classes(folder / "new", [5] * 16)
    for path in (folder / "new").rglob("*.png"):
        (folder / "data/raw" / path.parent.name / f"new-{path.name}").write_bytes(path.read_bytes() + b"new")
    stage("split")
    after = manifest()
    assert (after[renamed]["split"], after[renamed]["filler"]) == (extra[0]["split"], "pinned")
    for row in extra[1:]:
        if row["path"] != goes["path"]:
            assert after[row["path"]]["split"] == row["split"]


def test_a_class_of_two_images_is_trained_and_not_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((folder / "data/raw/digit-1").iterdir())[2:]:
        path.unlink()
    set_params(folder, {"tsne": {"perplexity": 1000}})
    stage("split")
    assert (
        "class 'digit-1' (2 images) has none in val and test: nothing is measured on it there"
        in capsys.readouterr().out
    )
    assert [row["split"] for row in manifest().values() if row["label"] == "digit-1"] == ["train", "train"]
    for name in ("stats", "train_scratch", "train_finetune", "evaluate", "tsne"):
        stage(name)
    assert "instead of 1000, because there are" in capsys.readouterr().out
    scores = read_json(folder / "metrics/evaluate.json")["scratch"]
    of_class = next(row for row in read_csv(folder / "plots/per_class.csv") if row["class"] == "digit-1")
    assert (of_class["test_images"], of_class["recall"], of_class["f1"], of_class["few"]) == ("0", "", "", "few")
    assert {"macro_f1", "auroc"} <= scores.keys()
    assert "probability_digit-1" in read_csv(folder / "plots/predictions.csv")[0]
    assert {row["class"] for row in read_csv(folder / "plots/roc.csv")} == {"digit-0", "digit-2"}
    words = darkroom("summary", cwd=folder)
    assert "Without test images, so that nothing is known of them: digit-1." in words


def test_a_class_that_only_has_pinned_images_left_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing moves, and the work goes on."""
    stage("split")
    kept = [path for path, row in manifest().items() if row["label"] == "digit-1" and row["split"] == "test"][:2]
    for path in (folder / "data/raw/digit-1").iterdir():
        if path.relative_to(folder / "data/raw").as_posix() not in kept:
            path.unlink()
    pin.add(Row(path, "digit-1", "test", manifest()[path]["sha256"], "") for path in kept)
    write_classes(folder / "new", [30] * 2)
    for path in (folder / "new").iterdir():
        path.rename(folder / "data/raw" / path.name)
    stage("split")
    assert {manifest()[path]["reason"] for path in kept} == {"is of a class that has no image in train"}
    assert "left out: class 'digit-1' (2 images), because none of them is in train" in capsys.readouterr().out


def test_a_class_without_train_in_a_parted_data_set_is_refused(folder: Path) -> None:
    raw = folder / "data/raw"
    raw.rename(folder / "flat")
    for path in sorted((folder / "flat").rglob("*.png")):
        target = raw / ("test" if path.stem > "019" else "train") / path.relative_to(folder / "flat")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    (raw / "test/digit-1").rename(raw / "test/digit-l")
    set_params(folder, {"split": {"mode": "folders"}})
    with pytest.raises(UserError, match=r"no image of class 'digit-l' \(10 in data/raw\) falls to train"):
        stage("split")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,tset,x\n", r"row with the unit 'a' and the side 'tset'"),
        (",test,x\n", r"row with the unit '' and"),
        ("a,test,x\na,val,x\n", r"pins 'a' to two sides"),
    ],
)
def test_a_damaged_table_of_pins(folder: Path, rows: str, message: str) -> None:
    (folder / "data/sides.csv").write_text(f"unit,side,path\n{rows}")
    with pytest.raises(UserError, match=message):
        stage("split")


def test_groups_move_whole(folder: Path) -> None:
    """The pins are of groups, too."""
    set_params(folder, {"split": {"group": r"(\d)[.]png$", "salt": "4"}})
    stage("split")
    rows = list(manifest().values())
    assert len({(row["group"], row["split"]) for row in rows}) == 10
    assert not {side for side in SIDES if not any(row["split"] == side for row in rows)}
    moved = {row["group"]: row["split"] for row in rows if row["filler"]}
    assert moved
    assert pin_all() >= len(moved)
    pins = {row["unit"]: row["side"] for row in read_csv(Path("data/sides.csv"))}
    assert moved.items() <= pins.items()
