"""Images in tar archives: as the user's data, and as the sides of the split."""

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import run, set_params, stage
from darkroom.comparison import work_tree
from darkroom.data import archives, manifest, samples
from darkroom.data.images import load_folder
from darkroom.data.layout import SIDES
from darkroom.data.survey import survey
from darkroom.inference.predict import files_of
from darkroom.results import images as images_of_revisions
from darkroom.system import files
from darkroom.system.errors import UserError

DAMAGED = "is no tar archive, is damaged, or has a name that does not end in .tar"


def pack(archive: Path, members: dict[str, bytes], **pax: str) -> None:
    """Write an archive. `pax` are headers that stand for what the archive says of each member itself."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w") as stream:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            header.pax_headers = pax | ({"path": name} if "\0" in name else {})
            stream.addfile(header, io.BytesIO(data))


def contents(raw: Path) -> dict[str, bytes]:
    return {path.relative_to(raw).as_posix(): path.read_bytes() for path in sorted(raw.glob("*/*"))}


def as_class_archives(raw: Path) -> None:
    """An archive for each class, as GNU tar makes it, with `./` before each name."""
    for folder in [folder for folder in raw.iterdir() if folder.is_dir()]:
        subprocess.run(["tar", "-cf", f"{folder}.tar", "-C", folder, "."], check=True)
        subprocess.run(["rm", "-r", folder], check=True)


def as_one_archive(raw: Path) -> None:
    """One archive with a folder per class."""
    names = sorted(folder.name for folder in raw.iterdir())
    subprocess.run(["tar", "-cf", raw / "all.tar", "-C", raw, *names], check=True)
    subprocess.run(["rm", "-r", *(raw / name for name in names)], check=True)


def as_webdataset(raw: Path) -> None:
    """Three shards of samples in WebDataset's convention: `00001.png`, its class in `00001.cls`, and what is not read."""
    every = list(contents(raw).items())
    for shard in range(3):
        members: dict[str, bytes] = {}
        for index, (path, data) in list(enumerate(every))[shard::3]:
            members |= {
                f"{index:05}.png": data,
                f"{index:05}.cls": path.split("/")[0].encode(),
                f"{index:05}.json": b"{}",
            }
        pack(raw / f"shard-{shard}.tar", members)
    subprocess.run(["rm", "-r", *(path for path in raw.iterdir() if path.is_dir())], check=True)


def sides() -> dict[str, tuple[str, str]]:
    """Content -> its class and its side."""
    return {row.sha256: (row.label, row.split) for row in manifest.read(None) if not row.reason}


@pytest.mark.parametrize("packed", [as_class_archives, as_one_archive, as_webdataset])
@pytest.mark.parametrize("layout", ["files", "shards"])
def test_images_of_an_archive_fall_to_the_sides_of_the_same_images_in_folders(
    folder: Path, packed: Callable[[Path], None], layout: str
) -> None:
    raw = folder / "data/raw"
    stage("split")
    expected, digest = sides(), {side: pixels_of(side) for side in SIDES}
    packed(raw)
    set_params(folder, {"split": {"layout": layout}})
    stage("split")
    assert sides() == expected
    assert {side: pixels_of(side) for side in SIDES} == digest
    stage("stats")


def pixels_of(side: str) -> set[tuple[str, str]]:
    """The class and a hash of the pixels of each image that a training would read."""
    loaded = load_folder(Path("data/split", side), 16, 100)
    classes = (loaded.classes[label] for label in loaded.labels)
    return {(label, hashlib.md5(pixels).hexdigest()) for label, pixels in zip(classes, loaded.pixels, strict=True)}


def test_a_side_in_archives_is_the_same_side_in_the_same_order(folder: Path) -> None:
    set_params(folder, {"split": {"group": r"(\d+)\.png$", "salt": "2"}})
    stage("split")
    expected = [load_folder(Path("data/split", side), 16, 100) for side in SIDES]
    tables = [files.read_csv(f"data/split/{side}/.groups.csv") for side in SIDES]
    stats = None
    for _ in range(2):
        set_params(folder, {"split": {"layout": "shards"}})
        stage("split")
        found = [load_folder(Path("data/split", side), 16, 100) for side in SIDES]
        for one, other in zip(expected, found, strict=True):
            assert one.paths == other.paths
            assert np.array_equal(one.pixels, other.pixels)
            assert np.array_equal(one.labels, other.labels)
        made = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in Path("data/split").rglob("*.tar")}
        assert stats in (None, made)  # the same bytes again
        stats = made
    assert tables == [files.read_csv(f"data/split/{side}/.groups.csv") for side in SIDES]
    assert not list(Path("data/split/train").glob("*/"))
    listed = subprocess.run(
        ["tar", "-tf", next(Path("data/split/train").glob("*.tar"))], capture_output=True, text=True
    )
    assert listed.stdout.split() == sorted(listed.stdout.split())


def test_a_new_image_changes_one_archive_of_a_side(folder: Path) -> None:
    set_params(folder, {"split": {"layout": "shards"}})
    stage("split")
    before = {path: path.read_bytes() for path in Path("data/split").rglob("*.tar")}
    (label,) = {path.parent for path in list(Path("data/raw").glob("*/*.png"))[:1]}
    data = next(label.glob("*.png")).read_bytes()
    (label / "one more.png").write_bytes(data + b"\0")  # another content, the same pixels
    stage("split")
    after = {path: path.read_bytes() for path in Path("data/split").rglob("*.tar")}
    assert len({path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("../../evil.png", b"x", "has a name that leads out of its archive"),
        ("/etc/evil.png", b"x", "has a name that leads out of its archive"),
        ("a//b.png", b"x", "has a name that leads out of its archive"),
        ("empty.png", b"", "is empty"),
        ("text.png", b"text", "is not an image"),
        ("notes.txt", b"text", "is not named as an image"),
        (".hidden.png", b"x", None),
        ("__MACOSX/a.png", b"x", None),
        ("a\0b.png", b"x", "has a name that no file can have"),
        (f"{300 * 'a'}.png", b"x", "has a name that no file can have"),
        ("caf\udce9.png", b"x", "has a name that is not UTF-8"),
        ("a<b.png", b"x", "has a name that is not UTF-8"),
    ],
)
def test_each_kind_of_member(tmp_path: Path, name: str, content: bytes, reason: str | None) -> None:
    pack(tmp_path / "class.tar", {name: content})
    found = survey(tmp_path, max_megapixels=100)
    if reason is None:
        assert found == []
    else:
        assert found[0].reason.startswith(reason)


def test_links_and_damaged_and_compressed_archives(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "links.tar", "w") as stream:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        stream.addfile(link)
    pack(tmp_path / "cut.tar", {f"{index}.png": bytes(5000) for index in range(9)})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:30_000])
    (tmp_path / "text.tar").write_text("text")
    pack(tmp_path / "header.tar", {f"{index}.png": bytes(5000) for index in range(9)})
    data = bytearray((tmp_path / "header.tar").read_bytes())
    data[4 * 5632 : 4 * 5632 + 100] = 100 * b"?"  # of the fifth member
    (tmp_path / "header.tar").write_bytes(data)
    pack(tmp_path / "size.tar", {"1.png": b"x"}, size="9" * 40)
    pack(tmp_path / "LOUD.TAR", {"1.png": b"x"})
    (tmp_path / "class").mkdir()
    (tmp_path / "class/pictures.zip").write_bytes(b"PK")
    reasons = {file.path: file.reason for file in survey(tmp_path, max_megapixels=100)}
    assert reasons == {
        "links.tar/link.png": "is not a regular file",
        "cut.tar": DAMAGED,
        **dict.fromkeys(("header.tar", "size.tar", "LOUD.TAR"), DAMAGED),
        "text.tar": DAMAGED,
        "class/pictures.zip": "is a compressed archive: unpack it, or store it as .tar",
    }


def test_split_stops_at_a_damaged_archive(folder: Path) -> None:
    """It may hold a whole class."""
    pack(folder / "data/raw/bird.tar", {f"{index}.png": bytes(5000) for index in range(9)})
    (folder / "data/raw/bird.tar").write_bytes((folder / "data/raw/bird.tar").read_bytes()[:30_000])
    with pytest.raises(UserError, match=r"bird\.tar' is no tar archive, is damaged.*: replace it, or move it out"):
        stage("split")
    assert not (folder / "data/split").exists()


def test_an_archive_that_changes_is_read_again(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", {"one.png": b"1"})
    assert archives.read(tmp_path / "a.tar/one.png") == b"1"
    pack(tmp_path / "a.tar", {"two.png": bytes(20_000), "one.png": b"22"})
    assert archives.read(tmp_path / "a.tar/one.png") == b"22"


@pytest.mark.parametrize("label", [b"", b"a/b", b"..", b"\xff"])
def test_a_class_that_is_no_name_is_refused(tmp_path: Path, label: bytes) -> None:
    pack(tmp_path / "shard.tar", {"1.png": b"x", "1.cls": label})
    with pytest.raises(UserError, match=r"1\.cls' holds no name of a class"):
        samples.label_of(tmp_path, "shard.tar/1.png", 0)


def test_an_image_without_a_class_beside_others_with_one_is_refused(tmp_path: Path) -> None:
    """As where a shard has its classes as hard links."""
    pack(tmp_path / "shard.tar", {"1.png": b"x", "1.cls": b"cat", "2.png": b"y"})
    assert samples.label_of(tmp_path, "shard.tar/1.png", 0) == "cat"
    with pytest.raises(UserError, match=r"2\.cls' is missing or a link"):
        samples.label_of(tmp_path, "shard.tar/2.png", 0)


def test_predict_takes_the_images_of_an_archive(tmp_path: Path) -> None:
    pack(tmp_path / "new.tar", {"b/2.png": b"x", "a/1.jpg": b"x", "notes.md": b"x", "a/._1.jpg": b"x"})
    passed: list[str] = []
    archive = tmp_path / "new.tar"
    assert list(files_of([str(archive)], passed.append)) == [f"{archive}/a/1.jpg", f"{archive}/b/2.png"]
    assert list(files_of([str(tmp_path)])) == [f"{archive}/a/1.jpg", f"{archive}/b/2.png"]
    assert passed == [f"{archive}/notes.md"]


def test_two_images_of_one_place_are_refused_and_nothing_is_written(folder: Path) -> None:
    """An archive of class folders, and an archive of the same name in the class folder."""
    data = next(Path("data/raw/digit-0").iterdir()).read_bytes()
    pack(folder / "data/raw/more.tar", {"digit-0/1.png": data})
    (folder / "data/raw/digit-0/more.tar/digit-0").mkdir(parents=True)
    (folder / "data/raw/digit-0/more.tar/digit-0/1.png").write_bytes(data + b"\0")
    with pytest.raises(UserError, match="would have one place in"):
        stage("split")
    assert (folder / "data/raw/digit-0/more.tar/digit-0/1.png").read_bytes() == data + b"\0"


def test_a_class_of_an_archive_that_would_be_markup_is_refused(folder: Path) -> None:
    data = next(Path("data/raw/digit-0").iterdir()).read_bytes()
    pack(folder / "data/raw/more.tar", {"1.png": data, "1.cls": b"<img src=x onerror=alert(1)>"})
    with pytest.raises(UserError, match="mend the archive"):
        stage("split")


def test_a_bad_image_in_an_archive_is_left_out(folder: Path) -> None:
    data = next(Path("data/raw/digit-0").iterdir()).read_bytes()
    pack(folder / "data/raw/digit-0.tar", {"1.png": data + b"\0", "bad.png": b"text"})
    stage("split")
    reasons = {row.path: row.reason for row in manifest.read(None) if row.reason}
    assert list(reasons) == ["digit-0.tar/bad.png"]


def test_a_new_class_in_a_shard_is_seen_before_the_stage_runs(folder: Path) -> None:
    """The images and their paths are the same; two classes have changed places."""
    as_webdataset(folder / "data/raw")
    stage("split")
    before = manifest.read(None)
    for archive in (folder / "data/raw").glob("*.tar"):
        with tarfile.open(archive) as stream:
            found = {one.name: stream.extractfile(one).read() for one in stream}  # type: ignore[union-attr]
        swap = {b"digit-0": b"digit-1", b"digit-1": b"digit-0"}
        pack(archive, {name: swap.get(data, data) for name, data in found.items()})
    after = {row.path: row.label for row in work_tree.from_raw(before, before)}
    assert {after[row.path] for row in before if row.label == "digit-0"} == {"digit-1"}
    assert {after[row.path] for row in before if row.label == "digit-2"} == {"digit-2"}


def test_an_image_of_an_archive_of_another_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Git and DVC, from the cache, when the archive has gone."""
    pack(tmp_path / "data/raw/cat.tar", {"1.png": b"one", "2.png": b"two"})
    monkeypatch.chdir(tmp_path)
    for command in ("git init -q", "dvc init -q", "dvc add -q data/raw", "git add -A", "git commit -qm images"):
        run(*command.split(), cwd=tmp_path)
    shutil.rmtree(tmp_path / "data/raw")
    assert images_of_revisions.content("data/raw/cat.tar/2.png", "HEAD") == b"two"
    assert (
        images_of_revisions.fetch(manifest.Row("cat.tar/3.png", "cat", "test", "", ""), "HEAD")
        is images_of_revisions.MISSING
    )
