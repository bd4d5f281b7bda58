"""A training that was killed goes on, and ends in the very bytes of one that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import ROOT, run, set_params
from darkroom import resume

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
    assert not list((folder / ".darkroom").rglob("*.pt"))

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
