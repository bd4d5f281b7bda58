"""The room data and its stage: every odd file is used, or left out with its reason, and never touched; how images are split."""

import errno
import hashlib
import os
import shutil
import signal
import struct
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import splitfolders
from PIL import Image
from sklearn.datasets import load_sample_image

from conftest import set_params, stage, write_digits
from darkroom.data import groups, images, leaks
from darkroom.data import survey as survey_module
from darkroom.data.images import list_images, load_folder
from darkroom.data.layout import SIDES
from darkroom.data.survey import perceptual_hash, survey
from darkroom.stages import split
from darkroom.system import dvc, files, parallel, params
from darkroom.system.errors import UserError

pytestmark = pytest.mark.fast

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def saved(**options: Any) -> Callable[[Path], None]:
    mode = options.pop("mode", "RGB")
    return lambda path: PICTURE.convert(str(mode)).save(path, **options)


def truncated(path: Path) -> None:
    PICTURE.save(path)
    path.write_bytes(path.read_bytes()[:-200])


def animated(path: Path) -> None:
    PICTURE.save(path, save_all=True, append_images=[Image.new("RGB", PICTURE.size)])


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter when shown
    PICTURE.save(path, exif=exif)


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it is 30,000 x 30,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def postscript(path: Path) -> None:
    """Pillow would start Ghostscript on it."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def icon(path: Path) -> None:
    """Pillow would decode it to learn its size."""
    PICTURE.save(path, format="ICO", sizes=[(16, 16)])


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("good.png", saved(), ""),
        ("truncated.jpg", truncated, "cannot be decoded"),
        ("zero.png", Path.touch, "is empty"),
        ("text.jpg", lambda path: path.write_text("not a picture"), "is not an image"),
        ("lies.jpg", saved(format="PNG"), ""),
        ("phone.jpg", saved(format="MPO", save_all=True, append_images=[PICTURE]), ""),
        ("script.png", postscript, "is not an image that can be read (BMP,"),
        ("icon.png", icon, "is not an image that can be read (BMP,"),
        ("icon.ico", icon, "is not named as an image"),
        ("grey.pgm", saved(mode="L"), ""),
        ("plain.ppm", saved(), ""),
        ("deep.png", lambda path: Image.fromarray(np.full((8, 8), 999, np.uint16)).save(path), ""),
        ("palette.png", saved(mode="P"), ""),
        ("alpha.png", saved(mode="RGBA"), ""),
        ("print.jpg", saved(mode="CMYK"), ""),
        ("bits.png", saved(mode="1"), ""),
        ("turned.jpg", rotated, ""),
        ("moving.gif", animated, ""),
        ("moving.webp", animated, ""),
        ("scan.tif", saved(), ""),
        ("old.bmp", saved(), ""),
        ("web.jpg", saved(progressive=True), ""),
        ("dot.png", lambda path: PICTURE.resize((1, 1)).save(path), ""),
        ("bomb.png", bomb, "has 900 megapixels"),
        ("a name with spaces.png", saved(), ""),
        ("Grüße 猫.png", saved(), ""),
        ("two\nlines.png", saved(), ""),
        ("-rf.png", saved(), ""),
        ("notes.txt", lambda path: path.write_text("x"), "is not named as an image"),
        ("nested/deeper/a.png", saved(), ""),
        ("outside.png", lambda path: path.symlink_to("/etc/hostname"), "is a link out of the data set"),
        ("nowhere.png", lambda path: path.symlink_to("gone.png"), "is a link to nothing"),
        ("pipe.png", os.mkfifo, "is not a regular file"),
        ("loop.png", lambda path: path.symlink_to("loop.png"), "is a link to nothing"),
        ("caf\udce9.png", saved(), "has a name that is not UTF-8"),
        ("a\rb.png", saved(), "has a name that is not UTF-8, or that holds"),
        (
            "a</script>.png",
            saved(),
            "has a name that is not UTF-8, or that holds a carriage return or a less-than sign",
        ),
        ("folder", lambda path: path.symlink_to("/etc"), "is a link to a folder"),
    ],
)
def test_each_kind_of_file(
    tmp_path: Path, name: str, make: Callable[[Path], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc, "cache", lambda _: tmp_path / "cache")  # DVC is not asked: the test starts no process
    path = tmp_path / "raw" / "class" / name
    path.parent.mkdir(parents=True)
    make(path)
    before = path.lstat()
    (one,) = survey(tmp_path / "raw", max_megapixels=100)
    assert one.path == f"class/{name}"
    assert one.reason.startswith(reason)
    assert bool(one.reason) == bool(reason)
    assert (path.lstat().st_mtime_ns, path.lstat().st_mode) == (before.st_mtime_ns, before.st_mode)
    if not reason:
        assert images.open_rgb(path).mode == "RGB"
        assert one.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_other_decoder_sees_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by its first bytes."""
    Image.init()
    others = [name for name in Image.ID if name not in images.FORMATS]
    assert "EPS" in others
    called = []
    for name in others:
        monkeypatch.setitem(Image.OPEN, name, (lambda *_, name=name: called.append(name), None))
    for make in (postscript, icon, lambda path: path.write_text("not a picture")):
        make(tmp_path / "a.png")
        with pytest.raises(OSError, match="cannot identify"):
            images.open_rgb(tmp_path / "a.png")
    assert not called


def test_pixels_of_odd_files(tmp_path: Path) -> None:
    rotated(tmp_path / "turned.jpg")
    assert images.open_rgb(tmp_path / "turned.jpg").size == (40, 60)
    animated(tmp_path / "moving.webp")
    assert np.asarray(images.open_rgb(tmp_path / "moving.webp")).mean() > 50  # the second frame is black


def test_a_link_inside_the_data_set_is_followed(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    PICTURE.save(tmp_path / "class/true.png")
    (tmp_path / "class/link.png").symlink_to("true.png")
    assert [one.reason for one in survey(tmp_path, 100)] == ["", ""]


def test_system_files_and_strays(tmp_path: Path) -> None:
    for name in (".DS_Store", "class/Thumbs.db", "class/.hidden.png", "__MACOSX/class/a.png", "stray.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PICTURE.save(tmp_path / name, format="PNG")
    assert [(one.path, one.reason) for one in survey(tmp_path, 100)] == [("stray.png", "lies in no class folder")]


def test_names_that_differ_in_case_are_two_images(folder: Path) -> None:
    raw = folder / "data/raw/digit-0"
    (raw / "000.png").rename(raw / "A.png")
    (raw / "001.png").rename(raw / "a.png")
    stage("split")
    assert {"digit-0/A.png", "digit-0/a.png"} <= {row["path"] for row in files.read_csv("data/manifest.csv")}


def test_bad_images_are_skipped_and_listed_or_stop_the_run(folder: Path) -> None:
    truncated(folder / "data/raw/digit-1/bad\nname.png")
    stage("split")
    rows = {row["path"]: row for row in files.read_csv("data/manifest.csv")}
    assert rows["digit-1/bad\nname.png"]["reason"].startswith("cannot be decoded")
    assert files.read_json("metrics/split.json")["left_out"] == 1
    set_params(folder, {"split": {"on_bad_image": "fail"}})
    with pytest.raises(UserError, match=r"cannot be decoded.*on_bad_image"):
        stage("split")


def test_a_decoders_message_cannot_end_a_script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The column `reason` is in DVC's page of plots, too."""

    def fail(*_: object) -> None:
        raise ValueError("</script>")

    monkeypatch.setattr(survey_module, "open_rgb", fail)
    assert (
        survey_module.examine(folder / "data/raw", 100, "digit-0/000.png").reason == r"cannot be decoded: \x3c/script>"
    )


@pytest.mark.parametrize("many", [False, True])
def test_an_image_that_kills_its_decoder_is_named_and_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """As a bug in a decoder does. Those that share its process are used."""
    raw = folder / "data/raw"
    if many:
        write_digits(raw, 120)
    evil = {"digit-0/007.png", "digit-0/008.png", "digit-2/029.png"}

    def open_or_die(stream: BufferedReader) -> Image.Image:
        if Path(stream.name).relative_to("data/raw").as_posix() in evil:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(stream)

    real = images.open_image
    monkeypatch.setattr("darkroom.data.survey.open_image", open_or_die)
    stage("split")
    rows = files.read_csv("data/manifest.csv")
    assert {row["path"]: row["reason"] for row in rows if row["reason"]} == dict.fromkeys(evil, "kills its decoder")
    assert len(rows) == (360 if many else 90)
    assert all(row["split"] in SIDES for row in rows if row["path"] not in evil)


def test_an_item_that_kills_its_process_is_named() -> None:
    with pytest.raises(UserError, match=r"^217 kills the process"):
        list(parallel.on_every_core(die_at_217, range(300)))


def die_at_217(number: int) -> None:
    if number == 217:
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_same_bytes_under_two_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = folder / "data/raw/digit-1/twin.png"
    twin.write_bytes((folder / "data/raw/digit-0/000.png").read_bytes())
    stage("split")
    assert "are the same bytes under different labels; all are used until you remove some" in capsys.readouterr().out
    assert files.read_json("metrics/split.json")["conflicts"] == 1
    set_params(folder, {"split": {"on_conflict": "fail"}})
    with pytest.raises(UserError, match=r"digit-0/000.png.*digit-1/twin.png.*different labels"):
        stage("split")


def test_the_classes_are_named_and_long_lists_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sides that were taken for classes, and an empty class folder, are seen at once."""
    raw = folder / "data/raw"
    (raw / "digit-0").rename(raw / "train")
    (raw / "digit-1").rename(raw / "test")
    (raw / "empty").mkdir()
    for number in range(30):
        (raw / f"train/{number}.txt").touch()
    stage("split")
    printed = capsys.readouterr().out
    assert "3 classes (images): digit-2 30, test 30, train 30\n" in printed
    assert "set split.mode to folders" in printed
    assert "left out: 'data/raw/empty' has no file" in printed
    assert printed.count("is not named as an image") == 20
    assert "... and 10 more files: data/manifest.csv has all" in printed


def twice(folder: Path) -> None:
    """Each image a second time, in the same class and in another group."""
    for path in sorted((folder / "data/raw").rglob("*.png")):
        shutil.copy(path, path.with_name(f"again-{path.name}"))


def in_folders(folder: Path) -> None:
    """A data set that is parted already, with each image of test in train and in val, and each of val in train."""
    raw = folder / "data/raw"
    raw.rename(folder / "flat")
    for side, low in (("train", 0), ("val", 15), ("test", 25)):
        for path in sorted((folder / "flat").rglob("*.png")):
            if int(path.stem) >= low:
                target = raw / side / path.parent.name / f"{path.stem}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


@pytest.mark.parametrize(
    ("spoil", "choices"),
    [
        (twice, {"group": r"([^/]+)[.]png"}),
        (twice, {"mode": "shuffle"}),
        (in_folders, {"mode": "folders"}),
    ],
)
def test_of_exact_copies_on_two_sides_the_less_protected_ones_are_left_out(
    folder: Path, spoil: Callable[[Path], None], choices: dict[str, object]
) -> None:
    spoil(folder)
    set_params(folder, {"split": choices})
    stage("split")
    rows = {row["path"]: row for row in files.read_csv("data/manifest.csv")}
    sides_of: dict[str, set[str]] = {}
    for row in rows.values():
        sides_of.setdefault(row["sha256"], set()).add(row["split"])
    out = [row for row in rows.values() if row["split"] == "left out"]
    assert out
    counts = files.read_json("metrics/split.json")
    assert counts["copies"] == counts["left_out"] == len(out)
    assert all(len(sides - {"left out"}) == 1 for sides in sides_of.values())
    for row in out:
        other = next(one for path, one in rows.items() if f"exact copy of {path!r}" in row["reason"])
        assert (other["sha256"], other["split"]) == (row["sha256"], row["reason"].rpartition(" ")[2])
    assert len(list(Path("data/split").rglob("*.png"))) == len(rows) - len(out)
    if choices.get("mode") == "folders":
        assert {row["path"].split("/")[0] for row in out} == {"train", "val"}
        assert {row["split"] for row in rows.values() if row["path"].startswith("test/")} == {"test"}


def test_the_most_protected_copy_stays() -> None:
    digests, sides = ["a", "a", "b", "a", "b", "c", "a"], ["train", "test", "val", "val", "train", "train", "test"]
    assert leaks.parted_copies(digests, sides) == {0: 1, 3: 1, 4: 2}


def test_look_alikes_are_found_across_all_pairs_of_sides(folder: Path) -> None:
    """An image of each side, saved again with one other pixel in the two other sides."""
    in_folders(folder)
    expected = set()
    for index, (one, other) in enumerate((("train", "test"), ("val", "test"), ("train", "val"))):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32), dtype=np.uint8)
        for side in (one, other):
            name = f"{side}/digit-0/picture-{index}.png"
            pixels[0, 0] ^= 1
            Image.fromarray(pixels).save(folder / "data/raw" / name)
        expected.add((f"{one}-{other}", f"{one}/digit-0/picture-{index}.png", f"{other}/digit-0/picture-{index}.png"))
    set_params(folder, {"split": {"mode": "folders"}})
    stage("split")
    rows = [tuple(row.values()) for row in files.read_csv("plots/near_duplicates.csv")]
    assert expected <= {row[:3] for row in rows}
    counted = files.read_json("metrics/split.json")["near_duplicates"]
    assert counted == {sides: sum(row[0] == sides for row in rows) for sides, _, _ in expected}
    distances = [int(row[3]) for row in rows]
    assert distances == sorted(distances)


def test_near_duplicates_are_all_pairs_within_the_distance() -> None:
    """Against the comparison of every pair."""
    generator = np.random.default_rng(0)
    ours = generator.integers(0, 256, (60, 32), dtype=np.uint8)
    theirs = ours[:40].copy()
    for row in theirs:  # flip up to 40 of 256 bits
        for bit in generator.integers(0, 256, generator.integers(0, 40)):
            row[bit // 8] ^= 1 << (bit % 8)
    expected = {
        (i, j): int(np.unpackbits(a ^ b).sum())
        for i, a in enumerate(ours)
        for j, b in enumerate(theirs)
        if np.unpackbits(a ^ b).sum() <= 15
    }
    hashes = [row.tobytes() for row in (*ours, *theirs)]
    found = leaks.near_duplicates(hashes, ["val"] * len(ours) + ["test"] * len(theirs), 15)
    assert {(pair.first, pair.second - len(ours)): pair.distance for pair in found.pairs} == expected
    assert len(found.pairs) == found.counts["val", "test"] > 5
    assert found.pairs == sorted(found.pairs, key=lambda pair: (pair.distance, pair))


def test_nearly_equal_images_are_compared_in_bounded_work_and_the_nearest_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the comparison of every pair. Bands in which more than 100 images agree are skipped, and all images are counted."""
    generator = np.random.default_rng(0)
    hashes = np.packbits(generator.random((400, 256)) < 0.06, axis=1)
    sides = ["train", "test"] * 200
    every = np.unpackbits(hashes[::2, None] ^ hashes[None, 1::2], axis=2).sum(2)
    monkeypatch.setattr(leaks, "KEPT", 30)
    whole = leaks.near_duplicates([row.tobytes() for row in hashes], sides, 15)
    assert whole.counts["train", "test"] == (every <= 15).sum() > 60
    assert [pair.distance for pair in whole.pairs] == np.sort(every, axis=None)[:30].tolist()
    assert whole.crowded == 0
    monkeypatch.setattr(leaks, "CROWD", 100)
    some = leaks.near_duplicates([row.tobytes() for row in hashes], sides, 15)
    assert 0 < some.counts["train", "test"] < whole.counts["train", "test"]
    assert some.crowded == len(hashes)


def test_a_recompressed_smaller_copy_is_near_and_another_picture_is_not(tmp_path: Path) -> None:
    china, flower = (Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))
    china.resize((320, 213)).save(tmp_path / "again.jpg", quality=70)
    again = perceptual_hash(images.open_rgb(tmp_path / "again.jpg"))
    hashes = [perceptual_hash(china), perceptual_hash(flower), again]
    (pair,) = leaks.near_duplicates(hashes, ["train", "train", "test"], 10).pairs
    assert (pair.first, pair.second) == (0, 2)


def test_a_parted_data_set_is_taken_as_it_is(folder: Path) -> None:
    raw = folder / "data/raw"
    raw.rename(folder / "data/flat")
    write_digits(raw / "train", 20)
    (raw / "test").mkdir()
    for label in ("digit-0", "digit-1", "digit-2"):
        (raw / "test" / label).mkdir()
        for path in sorted((folder / "data/flat" / label).iterdir())[20:]:
            path.rename(raw / "test" / label / path.name)
    set_params(folder, {"split": {"mode": "folders", "ratio": {"train": 0.5, "val": 0.25, "test": 0.25}}})
    stage("split")
    rows = files.read_csv("data/manifest.csv")
    assert {row["split"] for row in rows if row["path"].startswith("test/")} == {"test"}
    assert {row["split"] for row in rows if row["path"].startswith("train/")} == {"train", "val"}
    assert len(list(Path("data/split").rglob("*.png"))) == 90


def test_groups_from_a_table(folder: Path) -> None:
    rows = [(path, str(int(path[-6:-4]) % 15)) for path in images.list_images("data/raw")]
    files.write_csv("data/groups.csv", ("path", "group"), rows)
    set_params(folder, {"split": {"group": "data/groups.csv"}})
    stage("split")
    sides = {(row["group"], row["split"]) for row in files.read_csv("data/manifest.csv")}
    assert len(sides) == 15
    table = "".join(f"{group},{path}\n" for path, group in rows)
    Path("data/groups.csv").write_text(f"group,path\n{table}", encoding="utf-8-sig")  # as Excel writes it
    stage("split")
    assert {(row["group"], row["split"]) for row in files.read_csv("data/manifest.csv")} == sides
    files.write_csv("data/groups.csv", ("path", "group"), rows[1:])
    with pytest.raises(UserError, match=r"has no group for 'digit-0/000.png'"):
        stage("split")
    files.write_csv("data/groups.csv", ("path", "group"), [*rows[1:], (rows[0][0], "</script>")])
    with pytest.raises(UserError, match="has a group with a less-than sign"):
        stage("split")
    Path("data/groups.csv").write_text(f'path,group\n"{"x" * 200_000}')
    with pytest.raises(UserError, match=r"data/groups.csv is no CSV file \(field larger than"):
        stage("split")


def test_a_class_without_usable_images_is_an_error(folder: Path) -> None:
    (folder / "data/raw/digit-9").mkdir()
    (folder / "data/raw/digit-9/a.png").write_text("x")
    with pytest.raises(UserError, match=r"class 'digit-9' in data/raw has no image that can be used"):
        stage("split")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Image.new("L", (4, 4), 100), (100, 100, 100)),
        (lambda: Image.new("1", (4, 4), 1), (255, 255, 255)),
        (lambda: Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (255, 255, 255)),
        (lambda: Image.fromarray(np.full((4, 4), 32896, np.uint16)), (128, 128, 128)),
        (lambda: Image.new("P", (4, 4), 0), (0, 0, 0)),
    ],
)
def test_odd_modes_become_rgb(tmp_path: Path, make: object, expected: tuple[int, int, int]) -> None:
    make().save(tmp_path / "odd.png")  # type: ignore[operator]
    assert images.open_rgb(tmp_path / "odd.png").getpixel((1, 1)) == expected


def test_shuffle_mode_is_split_folders(folder: Path) -> None:
    set_params(folder, {"split": {"mode": "shuffle"}})
    stage("split")
    choices = params.load("split", split.Params)
    ratio = (choices.ratio.train, choices.ratio.val, choices.ratio.test)
    splitfolders.ratio("data/raw", "theirs", seed=choices.seed, ratio=ratio)
    theirs = sorted(path.relative_to("theirs").as_posix() for path in Path("theirs").rglob("*.png"))
    ours = sorted(path.relative_to("data/split").as_posix() for path in Path("data/split").rglob("*.png"))
    assert ours == theirs


def test_groups_stay_together(folder: Path) -> None:
    set_params(folder, {"split": {"group": "([0-9]+)[.]"}})  # the same number in each class is a group
    stage("split")
    rows = files.read_csv("data/manifest.csv")
    sides = {group: {row["split"] for row in rows if row["group"] == group} for group in {row["group"] for row in rows}}
    assert len(sides) == 30
    assert all(len(own) == 1 for own in sides.values())


def outputs(folder: Path) -> list[str]:
    """What a stage may have left, but for what it read."""
    return sorted(p.as_posix() for d in ("data/split", "metrics", "plots", "models") for p in folder.glob(f"{d}/**/*"))


def empty(folder: Path) -> None:
    shutil.rmtree(folder / "data/raw")
    (folder / "data/raw").mkdir()


def one_class(folder: Path) -> None:
    for other in ("digit-1", "digit-2"):
        shutil.rmtree(folder / "data/raw" / other)


def tiny_classes(folder: Path) -> None:
    for label in ("digit-1", "digit-2"):
        for path in sorted((folder / "data/raw" / label).iterdir())[2:]:
            path.unlink()


def test_a_folder_that_cannot_be_read_stops_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of the tests may be root, to whom every folder is open."""
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "digit-1":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="digit-1"):
        stage("split")
    assert outputs(folder) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "data/raw"), r"data/raw does not exist: put "),
        (empty, r"data/raw holds no images that can be used"),
        (one_class, r"single class, 'digit-0'"),
        (tiny_classes, r"val has images of 1 of the 3 classes"),
        (
            lambda folder: set_params(folder, {"split": {"group": "(unclosed"}}),
            r"split.group.*not a regular expression",
        ),
        (
            lambda folder: set_params(folder, {"split": {"group": "patient-[0-9]+"}}),
            r"does not match 'data/raw/digit-0/000.png'",
        ),
        (lambda folder: set_params(folder, {"split": {"group": "x", "mode": "shuffle"}}), r"set split.mode to hash"),
        (
            lambda folder: set_params(folder, {"split": {"ratio": {"train": 0.8, "val": 0.1, "test": 0.2}}}),
            r"split.ratio.*is 1.1: make it 1",
        ),
    ],
)
def test_split_refuses(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message):
        stage("split")
    assert outputs(folder) == []


@pytest.mark.parametrize("name", ["a<b", 'a" onerror="alert(1)', "a|b", "a\nb", "a\x7f"])
@pytest.mark.parametrize("mode", ["hash", "folders"])
def test_class_names_that_are_refused(folder: Path, name: str, mode: str) -> None:
    raw = folder / "data/raw"
    if mode == "folders":
        shutil.copytree(raw, folder / "sides/train")
        shutil.copytree(raw, folder / "sides/test")
        shutil.rmtree(raw)
        (folder / "sides").rename(raw)
        raw = raw / "test"
    set_params(folder, {"split": {"mode": mode}})
    (raw / "digit-0").rename(raw / name)
    with pytest.raises(UserError, match="is no name for a class") as refused:
        stage("split")
    assert repr(str(raw.relative_to(folder) / name)) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert outputs(folder) == []


def test_names_in_a_data_set_cannot_lead_out_of_the_outs(folder: Path) -> None:
    """Names that shells, paths, CSV, HTML and command lines might take for something else."""
    source = (folder / "data/raw/digit-0/000.png").read_bytes()
    evil = [
        "a..",
        "-rf",
        "$(touch pwned)",
        "`touch pwned`",
        "con:aux",
        "&lt;b&gt;&amp;",
        "%2e%2e%2fpwned",
        "~",
        "x" * 200,
    ]
    for index, name in enumerate(evil):
        label = folder / "data/raw" / name
        label.mkdir()
        for each in range(16):
            (label / f"{name[:9]}{each}.png").write_bytes(source + bytes([index, each]))
    write_digits(folder / "data/raw", 30)
    before = {path for path in folder.rglob("*") if "raw" in path.parts}
    set_params(folder, {"split": {"mode": "shuffle"}})
    stage("split")
    stage("stats")
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {
        path.relative_to(folder).as_posix() for path in before
    }
    inside = ("data/split/", "metrics/", "plots/", ".darkroom/", "requirements/")
    own = {
        "data",
        "data/split",
        "data/raw",
        "data/manifest.csv",
        "metrics",
        "plots",
        ".darkroom",
        "requirements",
        "params.yaml",
        "dvc.yaml",
    }
    assert {path for path in made if not path.startswith(inside)} <= own
    assert {path for path in folder.rglob("*") if "raw" in path.parts} == before
    manifest = files.read_csv(folder / "data/manifest.csv")
    assert len({row["label"] for row in manifest if row["split"] == "train"}) == 3 + len(evil)


def test_what_memory_does_not_hold_is_in_a_file(parted: Path) -> None:
    plenty = load_folder("data/split/train", 32, memory=100)
    none = load_folder("data/split/train", 32, memory=0)
    assert plenty.file is not None
    assert none.file is not None
    held, mapped = (Path(f"/proc/self/fd/{file.fileno()}").readlink() for file in (plenty.file, none.file))
    assert "memfd:" in str(held)
    assert mapped.is_relative_to(parted / ".darkroom")
    assert np.array_equal(plenty.pixels, none.pixels)
    assert not [path for path in (parted / ".darkroom").iterdir() if path.is_file()]


def test_no_images(folder: Path) -> None:
    assert not (folder / "data/split").exists()
    for name in ("stats", "tsne"):
        with pytest.raises(UserError, match=r"data/split.* holds no images"):
            stage(name)


def test_the_groups_of_a_side_are_a_hidden_table_in_it(folder: Path) -> None:
    """Without groups there is none, so that the bytes of the side are those of its images."""
    stage("split")
    assert not (folder / "data/split/test/.groups.csv").exists()
    paths = list_images("data/split/test")
    assert groups.units_of_side("data/split/test", paths).tolist() == list(range(len(paths)))

    set_params(folder, {"split": {"group": r"(\d+)\.png$", "salt": "2"}})
    stage("split")
    paths = list_images("data/split/test")
    units = groups.units_of_side("data/split/test", paths)
    names = [Path(path).stem for path in paths]
    assert len(set(units)) == len(set(names)) == units.max() + 1 < len(paths)
    assert all((units[i] == units[j]) == (names[i] == names[j]) for i in range(len(names)) for j in range(i))
    assert ".groups.csv" not in [Path(path).name for path in paths]
