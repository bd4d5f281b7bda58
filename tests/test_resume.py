"""A training that was killed goes on, and ends in the very bytes of one that was not."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import ROOT, make_project, run, set_params, surroundings, wait_until_none, write_digits
from darkroom.training import resume

OUTS = ("models/{}.pth", "plots/train_{}.csv", "metrics/train_{}.json")


def outs(folder: Path, name: str) -> list[bytes]:
    return [(folder / out.format(name)).read_bytes() for out in OUTS]


@pytest.mark.parametrize(("name", "how"), [("scratch", signal.SIGKILL), ("finetune", signal.SIGINT)])
def test_killed_between_and_within_epochs(folder: Path, name: str, how: signal.Signals) -> None:
    set_params(folder, {f"train_{name}": {"epochs": 4, "average": 0.9}})
    stage = [sys.executable, str(ROOT / "src/darkroom"), f"train_{name}"]
    for first in ("split", "stats"):
        run("python", ROOT / "src/darkroom", first, cwd=folder)
    run(*stage, cwd=folder)
    undisturbed = outs(folder, name)
    shutil.rmtree(folder / ".darkroom")

    for after in (1, 3):
        process = subprocess.Popen(
            stage,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        while not next(process.stdout).startswith(f"epoch {after:3d}"):
            pass
        process.send_signal(how)
        process.communicate()
        assert process.returncode != 0
    printed = run(*stage, cwd=folder)
    assert "going on after epoch" in printed
    assert "epoch   1/4" not in printed
    assert outs(folder, name) == undisturbed


def test_the_state_of_another_run_or_a_damaged_one_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resume.save("x", resume.key(b"data"), {"weights": torch.ones(3)})
    state = resume.load("x", resume.key(b"data"))
    assert state is not None
    assert torch.equal(state["weights"], torch.ones(3))
    assert resume.load("x", resume.key(b"other data")) is None
    path = resume.FOLDER / "x.pt"
    path.write_bytes(path.read_bytes()[:100])
    assert resume.load("x", resume.key(b"data")) is None
    torch.save([1, 2], path)
    (resume.FOLDER / "x.done").write_bytes(b"\xff")
    assert resume.load("x", resume.key(b"data")) is None


def start(*command: str, cwd: Path, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """A process whose output can be read line by line."""
    return subprocess.Popen(
        command, cwd=cwd, preexec_fn=before, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=surroundings(PYTHONUNBUFFERED="1"),
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"it ended without saying {words}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Digits in a Git + DVC project, split and measured, with a training of six epochs to come."""
    project = make_project(tmp_path / "a project", lambda raw: write_digits(raw, 60))
    set_params(project, {"train_scratch": {"epochs": 6}})
    run("dvc", "repro", "-q", "stats", cwd=project)
    return project


def test_dvc_killed_alone_takes_its_stage_along(project: Path) -> None:
    """Else the stage would go on writing while the next `dvc repro` runs the same one."""
    process = start("dvc", "repro", "train_scratch", cwd=project)
    read_until(process, "epoch   2/6")
    process.kill()
    process.communicate()  # to the end of what the stage prints: it holds the other end of the pipe
    printed = run("dvc", "repro", "train_scratch", cwd=project)
    assert "going on after epoch" in printed
    assert "epoch   1/6" not in printed


def test_two_at_once_end_in_a_message(project: Path) -> None:
    set_params(project, {"train_scratch": {"epochs": 60}})  # time enough for the others to start
    first = start("dvc", "repro", "train_scratch", cwd=project)
    read_until(first, "epoch   1/60")
    second = run("dvc", "repro", "train_scratch", cwd=project, code=255)
    by_hand = run("python", "src/darkroom", "train_scratch", cwd=project, code=2)
    assert "busy" in second or "lock" in second.lower()
    assert "Traceback" not in second
    assert "another run of this stage is at work" in by_hand
    printed, _ = first.communicate()
    assert first.returncode == 0, printed
    assert "up to date" in run("dvc", "repro", "train_scratch", cwd=project)


def test_a_full_disk_is_said_and_costs_nothing(folder: Path) -> None:
    """Files may not grow beyond what the state after an epoch needs; then they may."""
    for first in ("split", "stats"):
        run("python", ROOT / "src/darkroom", first, cwd=folder)
    stage = [sys.executable, str(ROOT / "src/darkroom"), "train_scratch"]
    run(*stage, cwd=folder)
    undisturbed = outs(folder, "scratch")
    for out in OUTS:
        (folder / out.format("scratch")).unlink()
    shutil.rmtree(folder / ".darkroom")

    needed = len(undisturbed[0])
    for limit, file in ((needed, ".darkroom/state"), (needed - 1, "models/scratch.pth")):
        if file.startswith("models"):  # the state is larger than the model: it was written while there was room
            run(*stage, cwd=folder)
            (folder / "models/scratch.pth").unlink()
        process = start(*stage, cwd=folder, before=lambda n=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)))
        printed, _ = process.communicate()
        assert process.returncode == 2, printed
        assert f"{file}" in printed
        assert "make room and run `dvc repro`" in printed
        assert "Traceback" not in printed
        assert not (folder / "models/scratch.pth").exists()
        assert not list(folder.rglob("*.partial"))
    assert "epoch" not in run(*stage, cwd=folder).replace("going on after epoch", "")
    assert outs(folder, "scratch") == undisturbed


def test_a_result_that_dvc_did_not_note_is_not_trained_again(project: Path) -> None:
    """Killed between the end of the stage and dvc.lock: the next run writes the same again, and trains nothing.

    Once DVC has it, whoever runs the stage again wants it trained again.
    """
    run("python", "src/darkroom", "train_scratch", cwd=project)
    first = outs(project, "scratch")
    printed = run("dvc", "repro", "train_scratch", cwd=project)
    assert "going on after epoch 6" in printed
    assert outs(project, "scratch") == first
    printed = run("dvc", "repro", "--force", "--single-item", "train_scratch", cwd=project)
    assert "epoch   1/6" in printed
    assert outs(project, "scratch") == first


def test_workers_of_a_killed_stage_end(folder: Path) -> None:
    write_digits(folder / "data/raw", 170, classes=10)
    process = start(sys.executable, str(ROOT / "src/darkroom"), "split", cwd=folder)
    workers: list[str] = []
    while not workers and process.poll() is None:
        tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = tasks.read_text().split() if tasks.exists() else ["none to be seen on this system"]
    process.kill()  # perhaps before the workers could ask to end with it
    process.wait()
    states = [Path("/proc", worker, "stat") for worker in workers]
    wait_until_none(lambda: [path for path in states if path.exists() and path.read_text().split()[2] != "Z"])
