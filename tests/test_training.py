"""Training in one process: augmentation, optimizers, and what changes the result and what does not."""

import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as transforms

from conftest import ROOT, pinned, set_params, stage
from darkroom.networks import registry
from darkroom.stages import train_finetune, train_scratch
from darkroom.system import files, params
from darkroom.system.errors import UserError
from darkroom.training import augmentation, history, optimizers, pace, resume
from darkroom.training.recipe import Recipe

pytestmark = pytest.mark.fast


STILL = augmentation.Augment(
    flip_horizontal=False,
    flip_vertical=False,
    rotation=0.0,
    zoom=0.0,
    shift=0.0,
    contrast=0.0,
    brightness=0.0,
    erase=0.0,
)
FLIPS = {"flip_horizontal": True, "flip_vertical": True}


def draws(**values: float) -> dict[str, torch.Tensor]:
    """Draws of one image, by augmentation."""
    return {name: torch.tensor([[value]]) for name, value in values.items()}


def with_changes(**changes: object) -> augmentation.Augment:
    """An augmentation that does nothing but `changes`."""
    return STILL.model_copy(update=changes)


@pytest.fixture
def picture() -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32))
    return torch.from_numpy(pixels).float()


def test_flips_are_torchvisions(picture: torch.Tensor) -> None:
    how = with_changes(**FLIPS)
    for horizontal, vertical, expected in (
        (0.9, 0.9, picture),
        (-0.9, 0.9, transforms.horizontal_flip(picture)),
        (0.9, -0.9, transforms.vertical_flip(picture)),
    ):
        drawn = draws(flip_horizontal=horizontal, flip_vertical=vertical)
        assert torch.equal(augmentation.augment(picture, drawn, how), expected)


@pytest.mark.parametrize(("draw", "angle"), [(-1.0, -90), (1.0, 90)])
def test_a_quarter_turn_is_a_quarter_turn(picture: torch.Tensor, draw: float, angle: int) -> None:
    turned = augmentation.augment(picture, draws(rotation=draw), with_changes(rotation=90.0))
    torch.testing.assert_close(turned, torch.rot90(picture, angle // 90, (2, 3)), atol=0.05, rtol=0)


def test_a_mirrored_and_turned_image_is_the_mirror_image_turned(picture: torch.Tensor) -> None:
    """What is interpolated in one step is what the exact flip and the turn give one after the other."""
    drawn = draws(flip_horizontal=-0.9, flip_vertical=0.9, rotation=1.0)
    at_once = augmentation.augment(picture, drawn, with_changes(**FLIPS, rotation=90.0))
    flipped = transforms.horizontal_flip(picture)
    turns = [torch.rot90(flipped, turn, (2, 3)) for turn in (1, -1)]
    assert min(float((at_once - turned).abs().max()) for turned in turns) < 0.05


def test_every_bound_is_kept(picture: torch.Tensor) -> None:
    how = with_changes(**FLIPS, rotation=180.0, zoom=0.5, shift=0.3, contrast=0.5, brightness=0.5, erase=0.5)
    many = augmentation.augment(picture.expand(64, -1, -1, -1), augmentation.draw(how, 1, 1, 64), how)
    assert many.min() >= 0
    assert many.max() <= 255
    assert len({image.numpy().tobytes() for image in many}) == 64


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    how = with_changes(**FLIPS, rotation=10.0, erase=0.5)
    first = augmentation.draw(how, 1, 3, 50)
    torch.rand(7)
    again, other_epoch, other_seed = (augmentation.draw(how, *which, 50) for which in ((1, 3), (1, 4), (2, 3)))
    assert set(first) == {*FLIPS, "rotation", "erase"}
    for name, numbers in first.items():
        assert numbers.shape == (50, augmentation.NUMBERS[name])
        assert torch.equal(numbers, again[name])
        assert not torch.equal(numbers, other_epoch[name])
        assert not torch.equal(numbers, other_seed[name])


def test_the_draws_of_two_augmentations_have_nothing_in_common() -> None:
    """Uniform on [-1, 1), and independent: no correlation beyond three standard errors of none."""
    drawn = augmentation.draw(with_changes(**FLIPS, rotation=1.0, zoom=1.0, shift=0.5), 1, 1, 10_000)
    columns = torch.cat(list(drawn.values()), 1)
    assert columns.min() >= -1
    assert columns.max() < 1
    assert (columns.mean(0).abs() < 0.03).all()
    assert (torch.corrcoef(columns.T) - torch.eye(columns.shape[1])).abs().max() < 0.03


@pytest.mark.parametrize(("name", "bound"), [("erase", 0.5), ("contrast", 0.3), ("brightness", 0.1)])
def test_an_augmentation_that_is_switched_on_changes_no_flip(name: str, bound: float) -> None:
    """The images of an epoch with and without it: mirrored in the same way, each of them."""
    ramp = (
        50 + torch.arange(32.0).expand(1, 3, 32, 32) + 4 * torch.arange(32.0)[:, None]
    )  # rises to the right and downwards
    images = ramp.expand(200, -1, -1, -1)
    without, with_it = with_changes(**FLIPS), with_changes(**FLIPS, **{name: bound})
    first, second = (augmentation.draw(how, 1, 1, 200) for how in (without, with_it))
    assert all(torch.equal(first[flip], second[flip]) for flip in FLIPS)
    plain, changed = augmentation.augment(images, first, without), augmentation.augment(images, second, with_it)
    assert not torch.equal(plain, changed)
    corners = [(0, 0), (0, 31), (31, 0), (31, 31)]
    assert len({int(image[0].argmax()) for image in plain}) == 4
    for before, after in zip(plain[:, 0], changed[:, 0], strict=True):
        kept = [corner for corner in corners if name != "erase" or after[corner] == before[corner]]
        order = [torch.tensor([float(image[corner]) for corner in kept]).argsort() for image in (before, after)]
        assert torch.equal(*order)


def test_random_erasing_fills_rectangles_with_the_mean_colour() -> None:
    """Zhong et al. 2020: the share of images is the probability, the areas and proportions are within their bounds."""
    random = torch.Generator().manual_seed(0)
    images = torch.rand(1000, 3, 40, 50, generator=random) * 255
    how = with_changes(erase=0.3)
    erased = augmentation.augment(images, augmentation.draw(how, 1, 1, 1000), how)
    changed = (erased != images).any(1)
    touched = changed.flatten(1).any(1)
    assert abs(float(touched.float().mean()) - 0.3) < 3 * (0.3 * 0.7 / 1000) ** 0.5
    areas, tall = [], 0
    for image, result, mask in zip(images[touched], erased[touched], changed[touched], strict=True):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert int(mask.sum()) == height * width  # all of a rectangle, and nothing else
        mean = image.double().mean((1, 2)).float()
        torch.testing.assert_close(result[:, mask], mean[:, None].expand(-1, height * width))
        areas.append(height * width / (40 * 50))
        tall += height / 40 > width / 50
    assert min(areas) > 0.01
    assert max(areas) < 1 / 3 + 0.04
    assert np.mean(areas) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    assert 0.35 < tall / len(areas) < 0.65


def recipe(stage_module: ModuleType, **changes: object) -> Recipe:
    """The section of a training stage in the tests' params, with `changes`."""
    section = stage_module.__name__.rpartition(".")[2]
    read: Recipe = stage_module.Params.model_validate({**pinned(params.read(ROOT / "params.yaml"))[section], **changes})
    return read


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_head_has_a_rate_of_its_own_and_weights_alone_decay(optimizer: str) -> None:
    """Biases and the scales of norms, whichever layer has them, do not decay."""
    own = recipe(train_finetune, optimizer=optimizer)
    assert isinstance(own, train_finetune.Params)
    model = registry.build("resnet18", {"pooling": "average", "dropout": 0.0}, 3)
    built = optimizers.build(own, [(model.backbone, own.lr), (model.head, own.head_lr)])
    assert type(built) is {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    found = {id(one): (group["lr"], group["weight_decay"]) for group in built.param_groups for one in group["params"]}
    assert sum(len(group["params"]) for group in built.param_groups) == len(found) == len(list(model.parameters()))
    norms = (torch.nn.BatchNorm2d, torch.nn.LayerNorm)
    for module_name, module in model.named_modules():
        for name, one in module.named_parameters(recurse=False):
            lr = own.head_lr if module_name == "head" else own.lr
            decays = name == "weight" and not isinstance(module, norms)
            assert found[id(one)] == (lr, own.weight_decay if decays else 0)


def test_a_bias_and_a_scale_do_not_shrink_and_a_weight_does() -> None:
    """A step with gradients of zero shows the decay alone."""
    for optimizer in ("sgd", "adamw"):
        own = recipe(train_scratch, optimizer=optimizer, weight_decay=0.5, lr=0.1)
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
        before = {name: one.detach().clone() for name, one in layers.named_parameters()}
        built = optimizers.build(own, [(layers, own.lr)])
        for one in layers.parameters():
            one.grad = torch.zeros_like(one)
        built.step()
        moved = {name for name, one in layers.named_parameters() if not torch.equal(one, before[name])}
        assert moved == {"0.weight", "2.weight"}


@pytest.mark.parametrize(
    ("name", "optimizer", "lr"),
    [
        ("train_scratch", "sgd", 0.05),
        ("train_scratch", "adamw", 0.01),
        ("train_finetune", "sgd", 0.01),
        ("train_finetune", "adamw", 0.001),
    ],
)
def test_both_optimizers_learn_in_both_stages(parted: Path, name: str, optimizer: str, lr: float) -> None:
    set_params(parted, {name: {"optimizer": optimizer, "lr": lr, "epochs": 3, "schedule": "constant"}})
    stage(name)
    epochs = files.read_csv(f"plots/{name}.csv")
    assert len(epochs) == 3
    assert float(epochs[-1]["train_loss"]) < float(epochs[0]["train_loss"])


def trained(folder: Path, name: str) -> bytes:
    """The model of `train_NAME`, trained from its first epoch on."""
    shutil.rmtree(folder / ".darkroom", ignore_errors=True)
    stage(f"train_{name}")
    return (folder / f"models/{name}.pth").read_bytes()


def epochs_of(*val: tuple[float, float]) -> list[history.Epoch]:
    """Epochs with these val accuracies and losses."""
    return [history.Epoch(index, 0.5, 0.5, loss, accuracy, 0.1) for index, (accuracy, loss) in enumerate(val, 1)]


def test_the_log_names_the_chosen_epoch_and_ties() -> None:
    epochs = epochs_of((0.5, 0.9), (0.9, 0.4), (0.6, 0.8), (0.9, 0.3), (0.9, 0.5), (0.6, 0.7))
    assert history.explain(epochs, 1000) == [
        "chosen: epoch 4 of 6, val accuracy 0.900 (900 of 1000 images)",
        "the same val accuracy in epoch 2, 5: the lowest val loss decided",
    ]
    epochs = epochs_of((0.5, 0.9), (0.9, 0.3), (0.6, 0.3), (0.9, 0.3), (0.6, 0.8))
    assert history.explain(epochs, 1000)[1:] == [
        "the same val accuracy in epoch 4: the lowest val loss decided, then the earliest epoch"
    ]


@pytest.mark.parametrize(("images", "is_too_small"), [(20, True), (95, True), (2000, False)])
def test_the_log_says_when_val_is_too_small(images: int, is_too_small: bool) -> None:
    """The best epoch is 0.03 above the median one. Its standard error is 0.03 for 100 images, and 0.007 for 2,000."""
    epochs = epochs_of((0.8, 0.5), (0.87, 0.4), (0.9, 0.3))
    assert (
        any("val is too small to choose an epoch by" in line for line in history.explain(epochs, images))
        == is_too_small
    )


def test_all_or_none_right_is_no_certainty() -> None:
    perfect = epochs_of((1.0, 0.5), (1.0, 0.4), (1.0, 0.3))
    assert "too small" in history.explain(perfect, 10)[-1]
    assert history.explain(perfect[:1], 10) == ["chosen: epoch 1 of 1, val accuracy 1.000 (10 of 10 images)"]
    assert history.standard_error(250, 1000) == pytest.approx((0.25 * 0.75 / 1000) ** 0.5, rel=0.01)


def test_a_training_ends_with_the_chosen_epoch(parted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage("train_scratch")
    metrics = files.read_json("metrics/train_scratch.json")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("chosen: ")]
    assert line.startswith(f"chosen: epoch {metrics['best_epoch']} of 3, val accuracy {metrics['val_accuracy']:.3f} (")
    images = len(list(parted.glob("data/split/val/*/*")))
    assert line.endswith(f" of {images} images)")


def test_where_pixels_are_kept_changes_nothing(parted: Path) -> None:
    """In memory, or in a file without a name."""
    in_memory = [trained(parted, name) for name in ("scratch", "finetune")]
    set_params(parted, {"images": {"memory": 0}})
    assert [trained(parted, name) for name in ("scratch", "finetune")] == in_memory
    assert not [path for path in (parted / ".darkroom").iterdir() if path.is_file()]


def test_bfloat16_rebuilds_exactly_and_is_another_result(parted: Path) -> None:
    exact = trained(parted, "scratch")
    set_params(parted, {"run": {"precision": "bfloat16"}})
    assert trained(parted, "scratch") == trained(parted, "scratch") != exact
    assert b"bfloat16" in (parted / "models/scratch.pth").read_bytes()


def test_a_training_that_diverges_leaves_nothing(parted: Path) -> None:
    set_params(parted, {"train_scratch": {"lr": 1000.0, "weight_decay": 1000.0}})
    with pytest.raises(UserError, match=r"diverged in epoch \d.*lower the learning rate of train_scratch"):
        stage("train_scratch")
    assert not list(parted.glob("models/*"))
    assert not list(parted.glob("plots/train_scratch.csv"))


def test_a_channel_that_never_changes_trains(folder: Path) -> None:
    """Fluorescence images are green alone."""
    for path in folder.glob("data/raw/*/*.png"):
        empty = Image.new("L", (32, 32))
        Image.merge("RGB", (empty, Image.open(path).convert("L"), empty)).save(path)
    for name in ("split", "stats", "train_scratch"):
        stage(name)
    assert files.read_json("metrics/stats.json")["std"]["red"] == 0
    assert 0 < files.read_json("metrics/train_scratch.json")["val_loss"] < 100


def test_the_state_of_another_run_or_a_damaged_one_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = resume.path("x", {"images": "some"})
    resume.save(file, {"weights": torch.ones(3)})
    state = resume.load(file)
    assert state is not None
    assert torch.equal(state["weights"], torch.ones(3))
    assert resume.load(resume.path("x", {"images": "others"})) is None
    file.write_bytes(file.read_bytes()[:100])
    assert resume.load(file) is None
    torch.save([1, 2], file)
    file.with_suffix(".done").write_bytes(b"\xff")
    assert resume.load(file) is None


def test_the_newest_states_of_a_stage_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [resume.path("x", {"images": str(number)}) for number in range(resume.KEPT + 2)]
    for number, file in enumerate(files):
        resume.save(file, {"number": number})
        resume.finish(file, file)
    assert [resume.load(file) for file in files] == [
        None,
        None,
        *({"number": number} for number in range(2, len(files))),
    ]
    assert not files[0].with_suffix(".done").exists()


class Operations(TorchDispatchMode):
    """Notes the names of the operations that run inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_takes_no_root_by_mkl(optimizer: str) -> None:
    """torch's sqrt is not that of IEEE 754. MKL approximates it, and AMD and Intel approximate in different ways."""
    layer = torch.nn.Linear(4, 3)
    built = optimizers.build(recipe(train_finetune, optimizer=optimizer), [(layer, 0.1)])
    with Operations() as operations:
        layer(torch.ones(2, 4)).sum().backward()
        built.step()
    assert operations.names
    assert not {name for name in operations.names if "sqrt" in name}


def test_a_training_says_how_long_it_will_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pace.expected(86.2, 7) == "an epoch takes about 86 s here, and 7 epochs about 10.1 minutes"
    assert pace.expected(240, 7).endswith("about 28.0 minutes; 2 epochs would fit into 10")
    assert pace.expected(1500, 7).endswith("about 175.0 minutes")  # not one fits
    monkeypatch.setattr(pace, "SHORT", 1.0)
    for step in pace.announced(range(20), count=20, scored=2, epochs=3):
        time.sleep(0.02)
        assert ("an epoch takes about" in capsys.readouterr().out) == (step == pace.SKIPPED + pace.MEASURED)
    assert list(pace.announced(range(5), count=5, scored=2, epochs=3)) == [0, 1, 2, 3, 4]
    assert list(pace.announced(range(20), count=20, scored=2, epochs=3)) == list(range(20))  # in no time
    assert capsys.readouterr().out == ""
