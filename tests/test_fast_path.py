"""What makes it fast changes no result: kept maps, files instead of memory, other devices and precisions."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from conftest import ROOT, RUN, run, set_params
from darkroom import checkpoint, device, frozen, models, params, train_finetune
from darkroom.errors import UserError
from darkroom.images import load_folder
from darkroom.inference import views

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


@pytest.mark.usefixtures("parted")
def test_kept_maps_are_what_the_frozen_layers_give() -> None:
    """Against the path of a recipe that turns images too, with its turns at nothing: computed anew in each step."""
    recipe = params.load("train_finetune", train_finetune.Params)
    torch.manual_seed(0)
    model = models.build("resnet18", {"pooling": "average", "dropout": 0.0}, 3)
    lower, _ = frozen.cut(model.backbone, 0.5, 32)
    data = load_folder("data/split/train", 32, memory=100)
    about = checkpoint.About("", {}, data.classes, 32, ["horizontal", "vertical"], [0.5] * 3, [0.5] * 3)
    still = recipe.augment.model_copy(update={"contrast": 1e-9})
    kept, anew = (
        frozen.above(lower, data, views(about), how, about, RUN, memory=100) for how in (recipe.augment, still)
    )
    chosen, draws = torch.arange(len(data.labels)), torch.rand(len(data.labels), 8)
    for own in (draws, None):
        ours, theirs = kept.inputs(chosen, own), anew.inputs(chosen, own)
        assert ours.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)  # half precision


def test_a_cut_backbone_still_drops_layers_while_it_trains() -> None:
    torch.manual_seed(0)
    model = models.build("efficientnet_b0", {"pooling": "average", "dropout": 0.0}, 3)
    lower, trained = frozen.cut(model.backbone, 0.1, 64)
    trained.train()
    for module in trained.modules():
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.5
        elif isinstance(module, torch.nn.Dropout):
            module.eval()
    maps = lower(torch.randn(2, 3, 64, 64))
    assert not torch.equal(trained(maps), trained(maps))


@pytest.mark.usefixtures("parted")
def test_maps_beyond_half_precision_are_refused() -> None:
    data = load_folder("data/split/train", 32, memory=100)
    about = checkpoint.About("", {}, data.classes, 32, [], [0.5] * 3, [0.5] * 3)
    with pytest.raises(UserError, match="beyond half precision"):
        frozen.keep(lambda images: images * 1e9, data, [()], about, RUN, memory=100)


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
