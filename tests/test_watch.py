"""`darkroom watch`: how far the stages are."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import run
from darkroom.report import watch
from darkroom.system import progress

PIPELINE = """stages:
  split: {cmd: "true", meta: {seconds: 10}}
  train_scratch: {cmd: "true", meta: {seconds: 100}}
  evaluate: {cmd: "true", meta: {seconds: 30}}
  extra: {cmd: "true"}
"""


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stage split has ended."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    with progress.noted("split"):
        pass
    progress._write("split", {**progress.read("split"), "seconds": 20.0})  # twice as slow as dvc.yaml says
    return tmp_path


@pytest.mark.fast
def test_stages_that_never_ran_take_what_dvc_yaml_says_at_the_pace_of_the_others(noted: Path) -> None:
    with progress.noted("train_scratch"):
        now = progress.read("train_scratch")["started"] + 50
        stages = watch.look(now)
        assert [one.state for one in stages] == ["done", "running", "waiting", "waiting"]
        assert [one.left for one in stages] == [0.0, pytest.approx(150), pytest.approx(60), None]
        assert watch.left(stages) == "about 4 min left, if all later stages run; unknown: extra"
        assert watch.line(stages).startswith("stage 2 of 4: train_scratch, about 4 min left")
    assert (noted / ".darkroom/progress/train_scratch.json").exists()


@pytest.mark.fast
@pytest.mark.usefixtures("noted")
def test_epochs_that_are_done_say_how_long_the_others_take() -> None:
    with progress.noted("train_scratch"):
        progress.epochs("train_scratch", 10, ("epoch", "val_loss"), [(1, 0.5), (2, 0.4)])
        stages = watch.look(progress.read("train_scratch")["started"] + 20)
        assert (stages[1].done, stages[1].epochs) == (2, 10)
        assert stages[1].left == pytest.approx(80)
        assert watch.cells(stages[1]) == ("train_scratch", "running", "2 of 10", "20 s", "80 s")
    assert watch.look(time.time())[1].state == "done"
    assert watch.left(watch.look(time.time())) == "no stage runs now"


def test_a_stage_that_was_killed_is_stopped(noted: Path) -> None:
    code = """
import os
from darkroom.system import progress
noted = progress.noted("evaluate")
noted.__enter__()
os.kill(os.getpid(), 9)
"""
    variables = {**os.environ, "PYTHONPATH": str(Path(progress.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=noted, check=False, env=variables)
    assert [one.state for one in watch.look(time.time())] == ["done", "waiting", "stopped", "waiting"]


@pytest.mark.fast
def test_a_process_that_has_the_number_of_a_killed_stage_is_not_the_stage(noted: Path) -> None:
    note: dict[str, object] = {
        "started": time.time() - 10**6,
        "seconds": None,
        "process": os.getpid(),
        "epochs": 0,
        "rows": [],
    }
    (noted / progress.FOLDER / "evaluate.json").write_text(json.dumps(note))
    assert watch.look(time.time())[2].state == "stopped"


@pytest.mark.fast
@pytest.mark.usefixtures("noted")
def test_a_failed_stage_keeps_the_time_of_its_last_run() -> None:
    with pytest.raises(ValueError, match="broken"), progress.noted("split"):
        raise ValueError("broken")
    assert progress.read("split")["seconds"] == 20.0


def test_a_run_notes_its_epochs_and_says_what_is_left(small: Path) -> None:
    run("dvc", "repro", "-q", "--force", cwd=small)
    noted = progress.FOLDER
    found = {path.stem: path.read_text() for path in (small / noted).glob("*.json")}
    assert found.keys() == {"split", "stats", "train_scratch"}
    assert '"val_accuracy"' in found["train_scratch"]
    assert '"process": null' in found["train_scratch"]
