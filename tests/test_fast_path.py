"""What makes it fast changes no result: files instead of memory, other devices and precisions."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import ROOT, RUN, run, set_params
from darkroom.data.images import load_folder
from darkroom.system import device
from darkroom.system.errors import UserError

STAGE = str(ROOT / "src/darkroom")


@pytest.fixture
def parted(folder: Path) -> Path:
    """`folder` with its split and its statistics."""
    for name in ("split", "stats"):
        run(sys.executable, STAGE, name, cwd=folder)
    return folder


def trained(folder: Path, name: str) -> bytes:
    """The model of `train_NAME`."""
    run(sys.executable, STAGE, f"train_{name}", cwd=folder)
    return (folder / f"models/{name}.pth").read_bytes()


def test_what_memory_does_not_hold_is_in_a_file_and_changes_nothing(parted: Path) -> None:
    plenty = load_folder("data/split/train", 32, memory=100)
    none = load_folder("data/split/train", 32, memory=0)
    assert isinstance(none.pixels, np.memmap)
    assert np.array_equal(plenty.pixels, none.pixels)
    in_memory = [trained(parted, name) for name in ("scratch", "finetune")]
    set_params(parted, {"images": {"memory": 0}})
    assert [trained(parted, name) for name in ("scratch", "finetune")] == in_memory
    assert not [path for path in (parted / ".darkroom").iterdir() if path.is_file()]


def test_bfloat16_rebuilds_exactly_and_is_another_result(parted: Path) -> None:
    exact = trained(parted, "finetune")
    set_params(parted, {"run": {"precision": "bfloat16"}})
    assert trained(parted, "finetune") == trained(parted, "finetune") != exact
    assert b"bfloat16" in (parted / "models/finetune.json").read_bytes()


def test_the_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(name: str) -> str:
        return device.choose(RUN.model_copy(update={"device": name})).type

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [chosen(name) for name in ("cpu", "cuda", "auto")] == ["cpu", "cuda", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [chosen(name) for name in ("cpu", "auto")] == ["cpu", "cpu"]
    with pytest.raises(UserError, match="torch finds no GPU here: say auto or cpu"):
        chosen("cuda")
