"""Shared rooms against the libraries that define what they should do."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import splitfolders
import torch
import torchvision
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from conftest import ROOT, set_params
from darkroom.data import images
from darkroom.evaluation import metrics
from darkroom.networks import checkpoint, models
from darkroom.stages import split, train_finetune
from darkroom.system import files, params
from darkroom.training import augmentation, loop

STILL = augmentation.Augment(
    flip_horizontal=False, flip_vertical=False, rotation=0.0, zoom=0.0, shift=0.0, contrast=0.0, brightness=0.0
)


def draws(**values: float) -> torch.Tensor:
    """Draws of one image that change nothing, but for those named: the place of each is its key's number."""
    row = torch.full((1, augmentation.DRAWS), 0.5)
    for key, value in values.items():
        row[0, int(key.removeprefix("at"))] = value
    return row


@pytest.fixture
def picture() -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32))
    return torch.from_numpy(pixels).float()


def test_flips_are_torchvisions(picture: torch.Tensor) -> None:
    how = STILL.model_copy(update={"flip_horizontal": True, "flip_vertical": True})
    assert torch.equal(augmentation.augment(picture, draws(at0=0.9, at1=0.9), how), picture)
    assert torch.equal(augmentation.augment(picture, draws(at0=0.1, at1=0.9), how), transforms.horizontal_flip(picture))
    assert torch.equal(augmentation.augment(picture, draws(at0=0.9, at1=0.1), how), transforms.vertical_flip(picture))


@pytest.mark.parametrize(("draw", "angle"), [(0.0, -90), (1.0, 90)])
def test_a_quarter_turn_is_a_quarter_turn(picture: torch.Tensor, draw: float, angle: int) -> None:
    turned = augmentation.augment(picture, draws(at2=draw), STILL.model_copy(update={"rotation": 90.0}))
    torch.testing.assert_close(turned, torch.rot90(picture, angle // 90, (2, 3)), atol=0.05, rtol=0)


def test_every_bound_is_kept(picture: torch.Tensor) -> None:
    how = augmentation.Augment(
        flip_horizontal=True, flip_vertical=True, rotation=180.0, zoom=0.5, shift=0.3, contrast=0.5, brightness=0.5
    )
    many = augmentation.augment(picture.expand(64, -1, -1, -1), torch.rand(64, augmentation.DRAWS), how)
    assert many.min() >= 0
    assert many.max() <= 255


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    order, values = loop.draw(1, 3, 50)
    torch.rand(7)
    again, same = loop.draw(1, 3, 50)
    assert torch.equal(order, again)
    assert torch.equal(values, same)
    assert not torch.equal(order, loop.draw(1, 4, 50)[0])
    assert not torch.equal(order, loop.draw(2, 3, 50)[0])


def test_shuffle_mode_is_split_folders(folder: Path) -> None:
    set_params(folder, {"split": {"mode": "shuffle"}})
    split.main()
    choices = params.load("split", split.Params)
    ratio = (choices.ratio.train, choices.ratio.val, choices.ratio.test)
    splitfolders.ratio("data/raw", "theirs", seed=choices.seed, ratio=ratio)
    theirs = sorted(path.relative_to("theirs").as_posix() for path in Path("theirs").rglob("*.png"))
    ours = sorted(path.relative_to("data/split").as_posix() for path in Path("data/split").rglob("*.png"))
    assert ours == theirs


def test_groups_stay_together(folder: Path) -> None:
    set_params(folder, {"split": {"group": "([0-9]+)[.]"}})  # the same number in each class is a group
    split.main()
    rows = files.read_csv("data/manifest.csv")
    sides = {group: {row["split"] for row in rows if row["group"] == group} for group in {row["group"] for row in rows}}
    assert len(sides) == 30
    assert all(len(own) == 1 for own in sides.values())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Image.new("L", (4, 4), 100), (100, 100, 100)),
        (lambda: Image.new("1", (4, 4), 1), (255, 255, 255)),
        (lambda: Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (255, 255, 255)),
        (lambda: Image.fromarray(np.full((4, 4), 32896, np.uint16)), (128, 128, 128)),
        (lambda: Image.new("P", (4, 4), 0), (0, 0, 0)),
    ],
)
def test_odd_modes_become_rgb(tmp_path: Path, make: object, expected: tuple[int, int, int]) -> None:
    make().save(tmp_path / "odd.png")  # type: ignore[operator]
    assert images.open_rgb(tmp_path / "odd.png").getpixel((1, 1)) == expected


def mcnemar_by_hand(first: int, second: int) -> float:
    """Twice the tail of the binomial distribution with even odds."""
    total, low = first + second, min(first, second)
    return min(1.0, 2 * sum(math.comb(total, k) for k in range(low + 1)) / 2**total)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 5), (1, 9), (30, 12), (3, 4)])
def test_mcnemar(first: int, second: int) -> None:
    ours = np.array([True] * first + [False] * second + [True] * 20)
    theirs = np.array([False] * first + [True] * second + [True] * 20)
    result = metrics.mcnemar(ours, theirs)
    assert result["p"] == pytest.approx(mcnemar_by_hand(first, second))
    assert (result["only_first"], result["only_second"]) == (first, second)


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])
    gaps = [abs(0.9 - 1), abs(0.8 - 0), abs(0.7 - 1), abs(0.6 - 1)]
    assert metrics.ece(labels, probabilities, 10) == pytest.approx(sum(gaps) / 4)


def test_accuracy_interval_is_wilsons() -> None:
    labels = np.zeros(656, int)
    result = metrics.accuracy(labels, np.array([0] * 580 + [1] * 76))
    z, n, share = 1.959964, 656, 580 / 656
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert result["low"] == pytest.approx((centre - half) / (1 + z * z / n), rel=1e-5)
    assert result["high"] == pytest.approx((centre + half) / (1 + z * z / n), rel=1e-5)


def test_checkpoints_of_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    about = checkpoint.About(
        models.SMALL_CNN, {"width": 4, "blocks": 2, "dropout": 0.0}, ["a", "b"], 32, [], [0.5] * 3, [0.5] * 3
    )
    for name in ("one.pth", "another name.pth"):
        torch.manual_seed(0)
        (tmp_path / name).with_suffix(".json").write_text("<<<<<<< HEAD")  # a damaged note is written anew
        checkpoint.save(
            tmp_path / name, models.build(about.architecture, about.options, 2), about, {"mode": "portable"}
        )
        note = json.loads((tmp_path / name).with_suffix(".json").read_text())
        assert note["sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "another name.pth").read_bytes()


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": np.float32(1 / 3), "a": np.int64(2)})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 2,\n  "b": 0.333333\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text())["a"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    def interrupted() -> None:
        with files.new_folder(tmp_path / "out") as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("tf_efficientnet_lite0", "average_and_maximum"),
        ("resnet18", "average_and_maximum"),
        ("mobilenet_v3_small", "average"),
        ("vit_b_16", "average"),
        ("timm/resnet18", "average_and_maximum"),
        ("shufflenet_v2_x0_5", "average"),
        ("timm/vit_tiny_patch16_224", "average"),
    ],
)
def test_any_backbone_gives_features_and_a_head(name: str, pooling: str) -> None:
    model = models.build(name, {"pooling": pooling, "dropout": 0.0}, 5).eval()
    images = torch.rand(2, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert model(images).shape == (2, 5)
        assert model.backbone(images).shape == (2, model.head.in_features)


def test_the_head_has_a_rate_of_its_own_and_weights_alone_decay() -> None:
    recipe = train_finetune.Params.model_validate(params.read(ROOT / "params.yaml")["train_finetune"])
    model = models.build("resnet18", {"pooling": "average", "dropout": 0.0}, 3)
    groups = train_finetune.adamw(model, recipe).param_groups
    found = {id(own): (group["lr"], group["weight_decay"]) for group in groups for own in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, own in model.named_parameters():
        lr = recipe.head_lr if name.startswith("head.") else recipe.lr
        assert found[id(own)] == (lr, recipe.weight_decay if own.ndim > 1 else 0)


def test_pooling_takes_the_mean_and_the_maximum() -> None:
    """torchvision's own ResNet up to its pooling, and NumPy from there."""
    torch.manual_seed(0)
    model = models.build("resnet18", {"pooling": "average_and_maximum", "dropout": 0.0}, 2).eval()
    plain = torchvision.models.resnet18()
    plain.load_state_dict({**plain.state_dict(), **model.backbone.state_dict()})
    until = torch.nn.Sequential(*list(plain.eval().children())[:-2])
    with torch.inference_mode():
        images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
        features, maps = model.backbone(images).numpy(), until(images).numpy()
    assert features == pytest.approx(np.concatenate([maps.mean((2, 3)), maps.max((2, 3))], 1), rel=1e-4, abs=1e-5)
