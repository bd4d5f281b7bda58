"""Other systems than the one that the promise of the same bytes is for, as far as Linux can stand in for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import STAGE, run, write_digits
from darkroom.experiments import tune
from darkroom.system import parallel

# Runs when Python starts. It has a thread run beside the stage, and notes that a process was spawned.
THREADED = """
import os, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
if "--multiprocessing-fork" in sys.orig_argv:
    open(os.environ["SPAWNED"], "w").close()
"""


def test_line_ends_are_those_of_the_commit(measured: Path, tmp_path: Path) -> None:
    """Git on Windows is set to convert them, which changes the md5 of each text file that a stage depends on."""
    project = tmp_path / "a clone"
    run("git", "-c", "core.autocrlf=true", "clone", "-q", measured, project, cwd=tmp_path)
    for name in run("git", "ls-files", cwd=project).splitlines():
        assert (project / name).read_bytes() == (measured / name).read_bytes(), name


def test_a_stage_with_spawned_processes_gives_the_same_bytes(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_digits(folder / "data/raw", parallel.FEW // 3 + 1)
    run("python", STAGE, "split", cwd=folder)
    forked = (folder / "data/manifest.csv").read_bytes()
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(THREADED)
    run("python", STAGE, "split", cwd=folder, PYTHONPATH=str(site), SPAWNED=str(site / "spawned"))
    assert (site / "spawned").exists()
    assert (folder / "data/manifest.csv").read_bytes() == forked


@pytest.mark.fast
def test_macos_does_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert parallel.start_method() == "spawn"


def test_a_trial_ends_where_there_are_no_process_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    monkeypatch.delattr(os, "killpg")
    tune.stop(process)
    assert process.wait(timeout=10)
