"""A training that was killed goes on, and ends in the very bytes of one that was not."""

import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, STAGE, run, set_params, stage, surroundings, wait_until_none, write_digits

OUTS = ("models/{}.pth", "plots/train_{}.csv", "metrics/train_{}.json")


def outs(folder: Path, name: str) -> list[bytes]:
    return [(folder / out.format(name)).read_bytes() for out in OUTS]


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


def undisturbed(folder: Path, name: str) -> list[bytes]:
    """The outs of a training in this process; `folder` is as it was before."""
    stage(f"train_{name}")
    made = outs(folder, name)
    for out in OUTS:
        (folder / out.format(name)).unlink()
    shutil.rmtree(folder / ".darkroom")
    return made


@pytest.mark.parametrize(("name", "how"), [("scratch", signal.SIGKILL), ("finetune", signal.SIGINT)])
def test_killed_between_and_within_epochs(parted: Path, name: str, how: signal.Signals) -> None:
    set_params(parted, {f"train_{name}": {"epochs": 4, "ema": 0.9}})
    expected = undisturbed(parted, name)
    command = ["python", str(STAGE), f"train_{name}"]
    for after in (1, 3):
        process = start(*command, cwd=parted)
        read_until(process, f"epoch {after:3d}")
        process.send_signal(how)
        process.communicate()
        assert process.returncode != 0
    printed = run(*command, cwd=parted)
    assert "going on after epoch" in printed
    assert "epoch   1/4" not in printed
    assert outs(parted, name) == expected


@pytest.fixture
def project(digits: Path) -> Path:
    """Digits in a Git + DVC project, split and measured, with a training of six epochs to come."""
    set_params(digits, {"train_scratch": {"epochs": 6}})
    return digits


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


def test_a_full_disk_is_said_and_costs_nothing(parted: Path) -> None:
    """Files may not grow beyond what the state after an epoch needs; then they may. The model is larger than the pixels."""
    set_params(parted, {"train_scratch": {"width": 64}})
    expected = undisturbed(parted, "scratch")
    command = ["python", str(STAGE), "train_scratch"]

    def run_on_a_full_disk(limit: int, file: str) -> None:
        process = start(*command, cwd=parted, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        printed, _ = process.communicate()
        assert process.returncode == 2, printed
        assert file in printed
        assert "make room and run it again; finished epochs are kept" in printed
        assert "Traceback" not in printed
        assert not (parted / "models/scratch.pth").exists()
        assert not list(parted.rglob("*.partial"))

    needed = len(expected[0])  # by the model, which is smaller than the state
    run_on_a_full_disk(needed, ".darkroom/state")
    run(*command, cwd=parted)
    (parted / "models/scratch.pth").unlink()
    run_on_a_full_disk(needed - 1, "models/scratch.pth")  # the state is there already
    printed = run(*command, cwd=parted)
    assert "going on after epoch 3" in printed
    assert not re.search(r"^epoch ", printed, re.M)  # none was trained
    assert outs(parted, "scratch") == expected


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
    process = start("python", str(STAGE), "split", cwd=folder)
    workers: list[str] = []
    while not workers and process.poll() is None:
        tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = tasks.read_text().split() if tasks.exists() else ["none to be seen on this system"]
    process.kill()  # perhaps before the workers could ask to end with it
    process.wait()
    states = [Path("/proc", worker, "stat") for worker in workers]
    wait_until_none(lambda: [path for path in states if path.exists() and path.read_text().split()[2] != "Z"])


@pytest.mark.product  # it has the params of the project, but for a few
def test_a_short_soak(tmp_path: Path) -> None:
    """benchmarks/soak.py, which kills stages at random moments; in full also the others and `dvc repro` itself."""
    printed = run("python", ROOT / "benchmarks/soak.py", "--kills", "1", "split", "train_scratch", cwd=tmp_path)
    for target in ("split", "train_scratch"):
        row = next(line for line in printed.splitlines() if line.startswith(f"| {target} |"))
        kills, runs, _, redone, differences = map(int, row.split("|")[2:-1])
        assert (kills, redone, differences) == (1, 0, 0)
        assert runs >= 1
