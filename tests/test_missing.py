"""A checkout of data/raw that was interrupted or forgotten is not taken for the owner's change."""

import shutil
from pathlib import Path

import pytest

from conftest import commit, darkroom, read_csv, run
from darkroom.data import missing, tracked


def interrupt(project: Path) -> None:
    """Leave data/raw as a `dvc checkout` that is killed leaves it: files are missing, and one has its temporary name."""
    lost = sorted((project / "data/raw/digit-0").iterdir())[:10]
    for path in lost[1:]:
        path.unlink()
    lost[0].rename(lost[0].with_name(".VmNiinunj1PZ3oPGGRBt1A.tmp"))


def test_make_does_not_take_an_interrupted_checkout_for_a_change(digits: Path) -> None:
    interrupt(digits)
    printed = darkroom("run", cwd=digits, code=2)
    assert "data/raw lacks 10 of the files that data/raw.dvc tracks" in printed
    assert run("git", "status", "--porcelain", cwd=digits) == ""


def test_dvc_repro_does_not_take_an_interrupted_checkout_for_a_change(digits: Path) -> None:
    """However often it is called. Both ways on that the sentence names are real ones."""
    interrupt(digits)
    for _ in range(2):
        printed = run("dvc", "repro", "split", cwd=digits, code=255)
        assert "darkroom split: data/raw lacks 10 of the files that data/raw.dvc tracks" in printed
        assert run("git", "diff", "data/raw.dvc", cwd=digits) == ""

    run("dvc", "checkout", "--force", "data/raw.dvc", cwd=digits)
    run("dvc", "repro", "split", cwd=digits)
    assert run("git", "status", "--porcelain", cwd=digits) == ""

    interrupt(digits)
    run("dvc", "repro", "split", cwd=digits, code=255)
    run("dvc", "add", "data/raw", cwd=digits)
    run("dvc", "repro", "split", cwd=digits)
    assert len(read_csv(digits / "data/manifest.csv")) == 170


def test_images_are_removed_as_documented(digits: Path) -> None:
    """`dvc add`, `dvc repro`, at once after each other; in an experiment, too; and again before the first is committed."""
    for number in range(5):
        (digits / f"data/raw/digit-0/00{number}.png").unlink()
    run("bash", "-ec", "dvc add -q data/raw && dvc repro split", cwd=digits)
    next((digits / "data/raw/digit-2").iterdir()).unlink()
    run("bash", "-ec", "dvc add -q data/raw && dvc exp run split", cwd=digits)
    assert len(read_csv(digits / "data/manifest.csv")) == 174


def test_other_changes_are_taken_as_intended(digits: Path) -> None:
    """Images that went while others came or were relabelled, without `dvc add`."""
    first, second, *_ = sorted((digits / "data/raw/digit-0").iterdir())
    first.unlink()
    second.rename(digits / "data/raw/digit-1/relabelled.png")
    run("dvc", "repro", "split", cwd=digits)
    assert len(read_csv(digits / "data/manifest.csv")) == 179


def test_images_of_another_commit_are_not_taken_for_a_change(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `git pull` or `git switch` without `dvc checkout`. Else images that a colleague has removed would come back."""
    old = next((digits / "data/raw/digit-0").iterdir())
    content = old.read_bytes()
    old.unlink()
    run("bash", "-ec", "dvc add -q data/raw && dvc repro split", cwd=digits)
    commit(digits, "Remove an image")
    shutil.rmtree(digits / ".dvc/cache/runs")  # of the person who has pulled, and has run nothing
    old.write_bytes(content)
    first = run("git", "log", "--format=%h", "--", "data/raw.dvc", cwd=digits).split()[1]
    for _ in range(2):
        printed = run("dvc", "repro", "split", cwd=digits, code=255)
        assert f"data/raw has the images of the commit {first}, and" in printed
        assert run("git", "diff", "data/raw.dvc", cwd=digits) == ""

    run("dvc", "checkout", "--quiet", "data/raw.dvc", cwd=digits)
    assert not old.exists()
    run("dvc", "repro", "split", cwd=digits)
    assert run("git", "status", "--porcelain", cwd=digits) == ""

    old.write_bytes(content)
    run("bash", "-ec", "dvc add -q data/raw && dvc repro split", cwd=digits)
    assert len(read_csv(digits / "data/manifest.csv")) == 180
    old_text = (digits / "data/raw.dvc").read_text()
    run("git", "checkout", "--", ".", cwd=digits)
    monkeypatch.chdir(digits)
    assert tracked.returned(tracked.content()) == ""
    assert missing.commit_with(tracked.content()) is None
    (digits / "data/raw.dvc").write_text(old_text)
    assert "note: data/raw had the images of the commit" in tracked.returned("before")
