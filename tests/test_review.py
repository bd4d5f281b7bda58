"""`darkroom review`: the decisions, the page driven by keys, and what moves and moves back."""

import csv
import errno
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("python_multipart", reason="needs FastAPI and more: pip install -r requirements/extras/serve.txt")

from conftest import commit, darkroom, read_csv, run, set_params, stage, surroundings
from darkroom.results import suspects
from darkroom.results.suspects import Suspect
from darkroom.review import decisions, moves, queue, tables
from darkroom.review.decisions import Decision
from darkroom.review.queue import Kind
from darkroom.system import files
from darkroom.system.errors import UserError

RAW = Path("data/raw")
HOSTILE_CLASS = '<img src=x onerror="document.title=1">'
HOSTILE_FILE = '"onerror=alert(1) x=".png'


def decision(path: str, what: str, label: str = "", sha256: str | None = None, note: str = "") -> Decision:
    """A decision about a file of data/raw in the current folder."""
    digest = sha256 or files.sha256((RAW / path).read_bytes())
    return Decision(path, digest, what, label, "Ann", "2026-01-02T03:04:05Z", note)


def suspect(path: str, suggested: str, *neighbours: str, score: float = 0.05) -> Suspect:
    """A line of the file of suspects about a file of data/raw in the current folder."""
    digest = files.sha256((RAW / path).read_bytes())
    return Suspect(path, digest, "train", path.split("/")[0], suggested, score, True, neighbours)


def tree(project: Path) -> dict[str, bytes]:
    """All files of data/raw, and the tables of a project, with their content."""
    paths = [*(project / RAW).rglob("*"), *(project / "data").glob("*.csv")]
    return {str(path.relative_to(project)): path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.fast
def test_decisions_are_kept_whatever_their_text_is(folder: Path) -> None:
    hostile = ["=cmd|'/c calc'!A0/x.png", "'quoted/x.png", 'a,b/"\n.png', "-1/x.png", "plain/x.png"]
    rows = [
        Decision(path, "0" * 64, "relabel", path.split("/")[0], "=Ann", "2026-01-02T03:04:05Z", "@SUM(1)")
        for path in hostile
    ]
    for row in rows:
        decisions.save(row)
    assert decisions.read() == sorted(rows)
    for cells in read_csv(folder / decisions.DECISIONS):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells.values())
    later = rows[-1]._replace(decision="keep", label="", when="2026-01-02T03:04:06Z")
    decisions.save(later)
    assert len(decisions.read()) == len(rows)
    assert later in decisions.read()
    assert decisions.one_line(" a\r\nb\t\x1b[31mc\u2028 ") == "a b [31mc"


@pytest.mark.fast
@pytest.mark.usefixtures("folder")
def test_decisions_of_two_writers_are_all_kept() -> None:
    rows = [Decision(f"a/{number:02d}.png", "0" * 64, "keep", "", "", decisions.now(), "") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decisions.save, rows))
    assert decisions.read() == rows


@pytest.mark.fast
@pytest.mark.usefixtures("folder")
def test_of_two_decisions_that_a_merge_left_the_later_counts() -> None:
    first = decision("digit-0/000.png", "keep")
    second = first._replace(decision="remove", when="2026-01-02T04:00:00Z")
    files.write_csv(decisions.DECISIONS, Decision._fields, [second, first])
    assert decisions.read() == [second]
    with decisions.DECISIONS.open("a") as stream:
        stream.write("<<<<<<< HEAD\n")
    with pytest.raises(UserError, match=r"data/review\.csv is damaged at '<<<<<<< HEAD'"):
        decisions.read()


@pytest.mark.fast
def test_rows_of_tables_follow_and_others_keep_their_bytes() -> None:
    content = '\ufeffpath,group\r\n"a/1.png","p 1"\r\na/2.png,p2\r\n"a/3,\n.png",p3'.encode()
    moved = tables.renamed(content, {"a/2.png": "b/2,x.png"})
    assert moved == content.replace(b"a/2.png", b'"b/2,x.png"')
    assert tables.renamed(content, {"a/3,\n.png": "b/3.png"}) == content.replace(b'"a/3,\n.png"', b"b/3.png")
    assert tables.paths(moved) == {"a/1.png", "b/2,x.png", "a/3,\n.png"}
    other_lines = "path,group\na/\u2028\x0b.png,p1\na/2.png,p2\r"
    moved = tables.renamed(other_lines.encode(), {"a/\u2028\x0b.png": "b/\u2028\x0b.png"})
    assert moved.decode() == other_lines.replace("a/\u2028", "b/\u2028")


@pytest.fixture
def doubtful(folder: Path) -> Path:
    """A split folder of digits with one conflict, one near copy on another side, and three suspects, as the current one."""
    shutil.copyfile(RAW / "digit-0/001.png", RAW / "digit-1/twin.png")
    near_copy(folder)
    suspects.write(
        [
            suspect("digit-0/003.png", "digit-2", "digit-2/004.png", "digit-2/005.png", score=0.01),
            suspect("digit-0/001.png", "digit-2", score=0.02),
            suspect("digit-1/005.png", "digit-0", "digit-0/006.png", score=0.2),
        ]
    )
    return folder


def near_copy(folder: Path) -> None:
    """Put a copy with one other pixel on another side, and run the stage split."""
    for number in range(1, 200):  # its side is a hash of its bytes
        pixels = np.array(Image.open(folder / RAW / "digit-2/000.png"))
        pixels[0, 0] = number
        Image.fromarray(pixels).save(folder / RAW / "digit-2/near.png")
        stage("split")
        if any(
            {row["first"], row["second"]} == {"digit-2/000.png", "digit-2/near.png"}
            for row in read_csv(Path(queue.LOOK_ALIKES))
        ):
            return
    raise AssertionError("no copy fell to another side")


def names(found: queue.Queue) -> list[str]:
    """The images to decide on."""
    return [found.images[item.image].path for item in found.items]


@pytest.mark.fast
@pytest.mark.usefixtures("doubtful")
def test_each_image_is_asked_once_conflicts_first() -> None:
    found = queue.build(list(Kind))
    asked = names(found)
    assert asked[:2] == ["digit-0/001.png", "digit-1/twin.png"]
    assert asked[-2:] == ["digit-0/003.png", "digit-1/005.png"]
    assert len(set(asked)) == len(asked)
    assert {"digit-2/000.png", "digit-2/near.png"} & set(asked[2:-2])
    assert not {"digit-2/000.png", "digit-2/near.png"} <= set(asked)
    twin = found.items[0]
    assert twin.suggested == "digit-1"
    assert [found.images[number].path for number in twin.others] == ["digit-1/twin.png"]
    assert len(twin.reasons) == 2
    assert found.items[-2].suggested == "digit-2"
    assert found.notes == []
    assert names(queue.build([Kind.CONFLICTS])) == asked[:2]
    suspects.SUSPECTS.unlink()
    assert "darkroom labels" in queue.build(list(Kind)).notes[0]
    with pytest.raises(UserError, match="run `darkroom labels`"):
        queue.build([Kind.SUSPECTS])


@pytest.mark.fast
@pytest.mark.usefixtures("doubtful")
def test_a_decision_is_about_bytes() -> None:
    before = names(queue.build(list(Kind)))
    path = "digit-0/003.png"
    decisions.save(decision(path, "relabel", "digit-2"))
    assert names(queue.build(list(Kind))) == before
    (RAW / path).rename(RAW / "digit-2/0031.png")  # as --apply does
    moved = queue.build(list(Kind))
    assert names(moved) == [name for name in before if name != path]
    assert "1 left out" in moved.notes[0]
    stage("split")
    suspects.write([suspect("digit-2/0031.png", "digit-0")])
    assert "digit-2/0031.png" not in names(queue.build(list(Kind)))  # decided already, although the model doubts it
    (RAW / "digit-2/0031.png").write_bytes((RAW / "digit-1/009.png").read_bytes())
    stage("split")
    suspects.write([suspect("digit-2/0031.png", "digit-0")])
    assert "digit-2/0031.png" in names(queue.build([Kind.SUSPECTS]))


# Moving and removing


@pytest.fixture
def reviewed(digits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git + DVC project with decisions, and tables that name the images, committed; as the current folder."""
    monkeypatch.chdir(digits)
    rows = [{"path": f"digit-{k}/{n:03d}.png", "group": f"g{n}"} for k in range(3) for n in range(60)]
    with (digits / "data/groups.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ("path", "group"), lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    unit = files.sha256((RAW / "digit-0/001.png").read_bytes())
    (digits / "data/sides.csv").write_text(f"unit,side,path\n{unit},train,digit-0/001.png\n")
    decisions.save(decision("digit-0/001.png", "relabel", "digit-1"))  # where 001.png is taken
    decisions.save(decision("digit-0/002.png", "relabel", "digit-2"))
    decisions.save(decision("digit-1/003.png", "remove"))
    decisions.save(decision("digit-1/004.png", "keep"))
    decisions.save(decision("digit-2/005.png", "unsure"))
    decisions.save(decision("digit-2/006.png", "remove", sha256="0" * 64))  # of other bytes
    commit(digits, "Decisions")
    return digits


def lay(project: Path, link: str) -> None:
    """Have DVC lay data/raw as links to its cache."""
    run("dvc", "config", "cache.type", link, cwd=project)
    run("dvc", "checkout", "-q", "--relink", "data/raw.dvc", cwd=project)
    take(project, link == "symlink")  # with the pin
    commit(project, "How DVC lays files")


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_apply_moves_and_undo_moves_back(reviewed: Path, link: str) -> None:
    lay(reviewed, link)
    before, cached = tree(reviewed), tree_of_cache(reviewed)
    refused = darkroom("review", "--apply", cwd=reviewed, code=2)
    assert "nothing is done, because there is no terminal" in refused
    assert tree(reviewed) == before
    said = darkroom("review", "--apply", "--yes", cwd=reviewed)
    assert "Images to relabel: 2." in said
    assert "from 'digit-0' to 'digit-1': 1" in said
    assert "Images to remove: 1." in said
    assert "'digit-0/001.png' -> 'digit-1/001-2.png'" in said
    assert "Decisions left out, because their files have other bytes now: 1." in said
    assert "Rows of data/groups.csv, a file of Git, that get the new path: 2." in said
    assert re.search(r"dvc add data/raw\n  dvc repro\n  git add -A && git commit", said)
    after = tree(reviewed)
    assert after["data/raw/digit-1/001-2.png"] == before["data/raw/digit-0/001.png"]
    assert after["data/raw/digit-1/001.png"] == before["data/raw/digit-1/001.png"]
    assert after["data/raw/digit-2/002-2.png"] == before["data/raw/digit-0/002.png"]
    assert len(after) == len(before) - 1
    assert b"digit-1/001-2.png,g1\r\n" in after["data/groups.csv"]
    assert b",train,digit-1/001-2.png\n" in after["data/sides.csv"]
    assert darkroom("review", "--apply", "--yes", cwd=reviewed).endswith("Nothing is to be moved or removed.\n")
    take(reviewed, link == "symlink")
    changes = darkroom("data-diff", cwd=reviewed)
    assert "`digit-0` to `digit-1`" in changes
    assert "`digit-1/003.png`" in changes
    assert "come back: 1." in darkroom("review", "--undo", "--yes", cwd=reviewed)
    take(reviewed, link == "symlink")
    assert tree(reviewed) == before
    assert run("git", "status", "--porcelain", cwd=reviewed) == ""
    assert cached.items() <= tree_of_cache(reviewed).items()
    assert not list((reviewed / ".darkroom/removed").rglob("*.png"))
    assert "there is nothing to undo" in darkroom("review", "--undo", "--yes", cwd=reviewed, code=2)


def take(project: Path, splits: bool) -> None:
    """Have DVC take note of the images, and split them."""
    run("dvc", "add", "-q", "data/raw", cwd=project)
    if splits:
        run("dvc", "repro", "-q", "split", cwd=project)


def tree_of_cache(project: Path) -> dict[str, bytes]:
    """All files of DVC's cache."""
    paths = (project / ".dvc/cache/files").rglob("*")
    return {str(path.relative_to(project)): path.read_bytes() for path in paths if path.is_file()}


# Runs when Python starts: the process kills itself at the KILL-th time that it renames or links a file of data/raw.
KILLS = """
import os, signal, sys
left = int(os.environ["KILL"])
def hook(event, args):
    global left
    if event in ("os.rename", "os.symlink") and "data/raw" in f"{args[0]} {args[1]}":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


def killed(project: Path, folder: Path, moves: int, word: str) -> None:
    """Run `darkroom review WORD --yes`, which is killed after so many moves."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(KILLS)
    command = (sys.executable, "-c", "from darkroom.cli import main; main()", "review", word, "--yes")
    run(*command, cwd=project, code=-signal.SIGKILL, PYTHONPATH=str(folder), KILL=str(moves))


def test_what_was_killed_goes_on_or_back(reviewed: Path, tmp_path: Path) -> None:
    before = tree(reviewed)
    killed(reviewed, tmp_path / "1", 1, "--apply")
    half = tree(reviewed)
    assert len({*before} - {*half}) == 1
    assert "was interrupted" in darkroom("review", "--apply", "--yes", cwd=reviewed)
    after = tree(reviewed)
    assert len({*before} - {*after}) == 3
    killed(reviewed, tmp_path / "2", 2, "--undo")
    assert "an undo was interrupted" in darkroom("review", "--apply", "--yes", cwd=reviewed, code=2)
    darkroom("review", "--undo", "--yes", cwd=reviewed)
    assert tree(reviewed) == before
    killed(reviewed, tmp_path / "3", 2, "--apply")
    darkroom("review", "--undo", "--yes", cwd=reviewed)
    assert tree(reviewed) == before
    darkroom("review", "--apply", "--yes", cwd=reviewed)
    assert tree(reviewed) == after


def test_undo_refuses_files_that_changed(reviewed: Path) -> None:
    darkroom("review", "--apply", "--yes", cwd=reviewed)
    moved = reviewed / RAW / "digit-1/001-2.png"
    content = moved.read_bytes()
    moved.write_bytes(b"edited")
    after = tree(reviewed)
    said = darkroom("review", "--undo", "--yes", cwd=reviewed, code=2)
    assert (
        said
        == "darkroom: 'data/raw/digit-1/001-2.png' has changed or is gone: put back the file that was there, and try again\n"
    )
    assert tree(reviewed) == after
    moved.write_bytes(content)
    groups = reviewed / "data/groups.csv"
    groups.write_bytes(groups.read_bytes() + b"new.png,g\r\n")  # a row of the user's stays
    darkroom("review", "--undo", "--yes", cwd=reviewed)
    assert groups.read_bytes().endswith(b"new.png,g\r\n")
    assert b"digit-0/001.png,g1\r\n" in groups.read_bytes()


def test_it_asks_on_a_terminal(reviewed: Path) -> None:
    before = tree(reviewed)
    for answer, code in (b"n\n", 1), (b"y\n", 0):
        outer, inner = pty.openpty()
        command = [sys.executable, "-c", "from darkroom.cli import main; main()", "review", "--apply"]
        asked = subprocess.Popen(
            command, cwd=reviewed, env=surroundings(), stdin=inner, stdout=subprocess.PIPE, text=True
        )
        os.write(outer, answer)
        said, _ = asked.communicate(timeout=60)
        os.close(outer)
        os.close(inner)
        assert asked.returncode == code
        assert "Images to relabel: 2." in said
        assert (tree(reviewed) == before) == bool(code)


@pytest.mark.fast
def test_a_table_of_a_stranger_moves_nothing_out(folder: Path) -> None:
    outside = folder.parent / "outside.png"
    shutil.copyfile(RAW / "digit-0/000.png", outside)
    (folder / RAW / "link").symlink_to(folder.parent)
    digest = files.sha256(outside.read_bytes())
    own = decision("digit-0/000.png", "relabel", "digit-1")
    for row in (
        own._replace(path="../../../outside.png", sha256=digest, decision="remove", label=""),
        own._replace(path=str(outside), sha256=digest, decision="remove", label=""),
        own._replace(path="link/outside.png", sha256=digest, decision="remove", label=""),
        own._replace(label=".."),
        own._replace(label="../../../elsewhere"),
        own._replace(label=""),
    ):
        files.write_csv(decisions.DECISIONS, Decision._fields, [row])
        assert "names no image or no class" in darkroom("review", "--apply", "--yes", cwd=folder, code=2)
    assert outside.exists()
    assert (folder / RAW / "digit-0/000.png").exists()


@pytest.mark.fast
def test_a_relative_link_leads_to_the_same_file_wherever_it_lies(folder: Path) -> None:
    link, moved = folder / RAW / "digit-0/link.png", folder / RAW / "digit-1/deep/link.png"
    link.symlink_to("../digit-2/000.png")
    moves.move(link, moved)
    assert moved.resolve() == (folder / RAW / "digit-2/000.png").resolve()
    link.symlink_to("../digit-2/000.png")  # as if it had been killed before the end
    digest = files.sha256(moved.read_bytes())
    assert not moves.is_moved(link, moved, digest)
    moves.move(link, moved)
    assert moves.is_moved(link, moved, digest)
    moves.move(moved, link)
    assert link.readlink() == Path("../digit-2/000.png")
    with pytest.raises(UserError, match="is there already"):
        moves.is_moved(link, folder / RAW / "digit-2/000.png", digest)


@pytest.mark.fast
def test_a_link_moves_to_another_disk_also_after_a_killed_move(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        if self.suffix == ".png":
            raise OSError(errno.EXDEV, "another disk")
        return rename(self, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", refuse)
    link, moved = folder / RAW / "digit-0/link.png", folder / RAW / "digit-1/link.png"
    partial = moved.with_name(f".{moved.name}.partial")
    for name in (link, partial):  # the second one as if it had been killed before the end
        name.symlink_to((folder / RAW / "digit-2/000.png").resolve())
    moves.move(link, moved)
    assert moved.is_symlink()
    assert moved.exists()
    assert not link.is_symlink()
    assert not partial.is_symlink()


@pytest.mark.fast
def test_in_a_data_set_that_is_split_already_the_side_stays(folder: Path) -> None:
    for side in ("train", "test"):
        shutil.copytree(RAW, folder / "sides" / side)
    shutil.rmtree(RAW)
    (folder / "sides").rename(RAW)
    set_params(folder, {"split": {"mode": "folders"}})
    decisions.save(decision("train/digit-0/001.png", "relabel", "new"))
    said = darkroom("review", "--apply", "--yes", cwd=folder)
    assert "from 'digit-0' to 'new': 1" in said
    assert (RAW / "train/new/001.png").exists()
    darkroom("review", "--undo", "--yes", cwd=folder)
    assert not (RAW / "train/new").exists()
    assert (RAW / "train/digit-0/001.png").exists()
