"""`darkroom predict --explain`: where in an image the reason for its class lies."""

import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("captum", reason="needs Captum: pip install -r requirements.txt")

import handmade
from conftest import read_csv
from darkroom.inference import explain, from_checkpoint, overlays, session
from darkroom.networks import checkpoint, registry
from darkroom.networks.classifier import Classifier
from darkroom.system.errors import UserError

SIDE = 32
OPTIONS: dict[str, Any] = {"width": 8, "blocks": 2, "dropout": 0.0}


def model_of(network: Classifier, flips: Sequence[str] = (), side: int = SIDE) -> registry.Model:
    return handmade.model_of(network, "small_cnn", OPTIONS, side, list(flips))


@pytest.fixture(scope="module")
def learned() -> tuple[Classifier, np.ndarray, np.ndarray]:
    """A network that knows whether a spot is red or blue, images of such a spot and a green one, and (x, y) of the former."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    pixels = random.integers(100, 140, (64, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.arange(64) % 2
    places = random.integers(0, (SIDE // 2 - 8, SIDE - 8), (64, 2))  # on the left; the other spot is on the right
    for image, label, (x, y) in zip(pixels, labels, places, strict=True):
        image[y : y + 8, x : x + 8] = (250, 0, 0) if label else (0, 0, 250)
        other = random.integers(0, SIDE - 8)
        image[other : other + 8, SIDE // 2 + 4 : SIDE // 2 + 12] = (0, 250, 0)
    half = np.arange(64) % 4 > 1
    pixels[half], places[half, 0] = pixels[half, :, ::-1], SIDE - 8 - places[half, 0]
    network = registry.build("small_cnn", OPTIONS, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.2
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), torch.from_numpy(labels)).backward()
        optimizer.step()
    assert (network.eval()(inputs).argmax(1).numpy() == labels).all()
    return network, pixels, places


def share_in_place(network: Classifier, pixels: np.ndarray, places: np.ndarray) -> float:
    """The share of images whose strongest reason is the spot that decides."""
    heat = explain.of_model(model_of(network, ["horizontal", "vertical"]))(pixels, np.arange(64) % 2)
    assert heat.shape == (64, SIDE, SIDE)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert set(heat.max((1, 2)).round(4)) <= {0, 1}
    hottest = [np.unravel_index(one.argmax(), one.shape) for one in heat]
    return float(
        np.mean([abs(h - x - 4) < 8 and abs(v - y - 4) < 8 for (v, h), (x, y) in zip(hottest, places, strict=True)])
    )


def test_the_reason_lies_where_the_class_is_seen_and_not_for_random_weights(
    learned: tuple[Classifier, np.ndarray, np.ndarray],
) -> None:
    """A map that showed edges or bright things would be the same for any weights (Adebayo et al. 2018)."""
    network, pixels, places = learned
    assert share_in_place(network, pixels, places) > 0.95
    shares = []
    for seed in range(5):
        torch.manual_seed(seed)
        shares.append(share_in_place(registry.build("small_cnn", OPTIONS, 2), pixels, places))
    assert np.mean(shares) < 0.7


def test_flips_are_averaged_and_flipped_back(learned: tuple[Classifier, np.ndarray, np.ndarray]) -> None:
    network, pixels, _ = learned
    function = explain.of_model(model_of(network, ["horizontal"]))
    some, classes = pixels[:8], np.arange(8) % 2
    mirrored = np.ascontiguousarray(some[:, :, ::-1])
    assert function(mirrored, classes) == pytest.approx(function(some, classes)[:, :, ::-1], abs=1e-4)
    plain = explain.of_model(model_of(network))
    assert np.abs(plain(some, classes) - function(some, classes)).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer4"), ("densenet121", "features"), ("mobilenet_v3_small", "features"), ("swin_t", "permute")],
)
def test_the_layer_is_the_last_one_with_places(name: str, layer: str) -> None:
    network = registry.build(name, {"pooling": "average", "dropout": 0.0}, 2)
    model = model_of(network, side=64)
    assert explain.last_maps(model) is network.backbone.get_submodule(layer)
    heat = explain.of_model(model)(np.zeros((1, 64, 64, 3), np.uint8), np.array([0]))
    assert heat.shape == (1, 64, 64)


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"])
def test_a_backbone_without_maps_is_refused(name: str) -> None:
    model = model_of(registry.build(name, {"pooling": "average", "dropout": 0.0}, 2), side=224)
    model = replace(model, about=replace(model.about, architecture=name))
    with pytest.raises(UserError, match=f"Grad-CAM needs maps, and {name} has none"):
        explain.of_model(model)


@pytest.mark.fast
def test_names_are_unique_and_stay_in_the_folder(tmp_path: Path) -> None:
    paths = [
        "a/x.png",
        "b/x.png",
        "x.png",
        "./x.png",
        "/x.png",
        "../x.png",
        "..",
        "x.jpg",
        "a\\x.png",
        "<b>.png",
        "é.png",
    ]
    paths += ["x" * 300 + ".png", "\udcff.png", "con:x\n.png", "-rf.png", ".hidden.png"]
    names = [overlays.name_of(path) for path in paths]
    assert len({name.lower() for name in names}) == len(paths)
    for name in names:
        assert (tmp_path / name).resolve().parent == tmp_path
        assert len(name) < 100
        assert name.isascii()
        assert name[0].isalnum()


@pytest.mark.fast
def test_where_nothing_speaks_for_the_class_the_image_is_grey_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    heat = np.zeros((300, 300), np.float32)
    heat[100:200] = 1
    drawn = np.asarray(Image.open(io.BytesIO(overlays.overlay(image, heat)))).astype(int)
    grey = np.asarray(Image.fromarray(image).convert("L")).astype(int)
    assert (drawn[:100] == grey[:100, :, None]).all()
    assert np.ptp(drawn[100:200], axis=2).min() > 50  # in colour


def test_the_command(learned: tuple[Classifier, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    """Images in two folders with one name, and a file that cannot be read."""
    network, pixels, _ = learned
    model = model_of(network)
    checkpoint.save(tmp_path / "m.pth", network, model.about, model.calibration, {})
    for folder, image in zip(("one", "two"), pixels[:2], strict=True):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "x.png")
    (tmp_path / "two/y.png").write_bytes(b"no image")

    def explained(folder: str) -> str:
        choices = session.Choices(tmp_path / "out.csv", None, 2, True, 0.05, tmp_path / folder)
        paths = [str(tmp_path / "one"), str(tmp_path / "two")]
        assert session.run(tmp_path / "m.pth", paths, choices) == 1
        return (tmp_path / "out.csv").read_text()

    explained("why")
    rows = read_csv(tmp_path / "out.csv")
    names = [row["explanation"] for row in rows]
    assert names[2] == ""
    assert {path.name for path in (tmp_path / "why").iterdir()} == set(names[:2])
    assert len(set(names)) == 3
    assert all(row["class_2"] and float(row["probability_of_class 0"]) <= 1 for row in rows[:2])
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        with pytest.raises(UserError, match="cannot be written"):
            explained(folder)


def test_without_captum_it_is_one_sentence(
    learned: tuple[Classifier, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UserError, match=r"pip install -r requirements\.txt"):
        explain.of_model(model_of(learned[0]))


def test_an_exported_model_is_refused(learned: tuple[Classifier, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    exported = replace(from_checkpoint.of_model(model_of(learned[0])), explainer=None)
    with pytest.raises(UserError, match="an exported model cannot be explained"):
        session.pictures(exported, tmp_path / "why")
    assert not (tmp_path / "why").exists()
