"""Other systems than the one that the promise of the same bytes is for, as far as Linux can stand in for them."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import run, stage, write_digits
from darkroom.experiments import members
from darkroom.system import git, parallel


def test_line_ends_are_those_of_the_commit(measured: Path, tmp_path: Path) -> None:
    """Git on Windows is set to convert them, which changes the md5 of each text file that a stage depends on."""
    project = tmp_path / "a clone"
    run("git", "-c", "core.autocrlf=true", "clone", "-q", measured, project, cwd=tmp_path)
    for name in run("git", "ls-files", cwd=project).splitlines():
        assert (project / name).read_bytes() == (measured / name).read_bytes(), name


def test_a_stage_with_spawned_processes_gives_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_digits(folder / "data/raw", parallel.FEW // 3 + 1)
    stage("split")
    forked = (folder / "data/manifest.csv").read_bytes()
    monkeypatch.setattr(parallel, "START", "spawn")
    stage("split")
    assert (folder / "data/manifest.csv").read_bytes() == forked


@pytest.mark.fast
def test_macos_does_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert runpy.run_path(str(parallel.__file__))["START"] == "spawn"


def test_a_trial_ends_where_there_are_no_process_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    monkeypatch.delattr(os, "killpg")
    members.stop(process)
    assert process.wait(timeout=10)


def test_a_file_of_a_commit_is_as_a_checkout_writes_it(tmp_path: Path) -> None:
    """A filter that stands in for Git LFS: another text is committed than lies in the folder."""
    run("git", "init", "--quiet", cwd=tmp_path)
    for name, value in {
        "filter.large.clean": "tr A-Z a-z",
        "filter.large.smudge": "tr a-z A-Z",
        "user.name": "A",
        "user.email": "a@example.org",
    }.items():
        run("git", "config", name, value, cwd=tmp_path)
    (tmp_path / ".gitattributes").write_text("large.csv filter=large\n")
    for name in ("large.csv", "small.csv"):
        (tmp_path / name).write_text("TEXT\n")
    run("git", "add", "--all", cwd=tmp_path)
    run("git", "commit", "--quiet", "--message", "Text", cwd=tmp_path)
    assert run("git", "show", "HEAD:large.csv", cwd=tmp_path) == "text\n"
    assert [git.show("HEAD", name, tmp_path) for name in ("large.csv", "small.csv", "no.csv")] == [
        b"TEXT\n",
        b"TEXT\n",
        None,
    ]
