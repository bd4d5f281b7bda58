"""Networks: pretrained weights, backbones, checkpoints, and what is refused."""

import hashlib
import importlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.transforms.v2 import functional as transforms

from conftest import set_params, stage
from darkroom.networks import backbones, checkpoint, registry, small_cnn, weights
from darkroom.networks.calibration import Calibration, Space
from darkroom.networks.classifier import Classifier
from darkroom.system.errors import UserError

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(("picture", "name"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_packaged_weights_know_what_they_see(picture: str, name: str) -> None:
    pretrained = weights.load_pretrained("tf_efficientnet_lite0", "default")
    image = transforms.to_image(Image.fromarray(load_sample_image(picture)))
    image = transforms.center_crop(transforms.resize(image, [256], antialias=True), [224])
    image = transforms.normalize(transforms.to_dtype(image, torch.float32, scale=True), pretrained.mean, pretrained.std)
    with torch.inference_mode():
        first = int(pretrained.model.eval()(image[None]).argmax())
    assert ResNet18_Weights.DEFAULT.meta["categories"][first] == name


def test_fine_tuning_starts_from_them_and_from_a_head_of_zeros(parted: Path) -> None:
    """Seen in what hardly learns; and BatchNorm keeps the statistics that it came with."""
    set_params(parted, {"train_finetune": {"lr": 1e-12, "head_lr": 1e-12}})
    stage("train_finetune")
    state = torch.load(parted / "models/finetune.pth", weights_only=True)["state_dict"]
    backbone, _ = backbones.without_head(weights.load_pretrained("tf_efficientnet_lite0", "default").model)
    for name, own in backbone.state_dict().items():
        torch.testing.assert_close(state[f"backbone.{name}"], own, rtol=0, atol=0 if "running_" in name else 1e-6)
    assert state["head.weight"].abs().max() < 1e-6


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """A loopback server of a folder, made the mirror, and an empty cache for torch."""
    served, cache = tmp_path / "served", tmp_path / "cache"
    served.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("TORCH_HOME", str(cache))
        monkeypatch.setenv(weights.MIRROR, f"http://127.0.0.1:{server.server_port}/")
        yield served, cache
        server.shutdown()


@pytest.fixture
def published(mirror: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ResNet18 published on the mirror by torchvision's rule: the name ends in the first digits of its SHA-256."""
    served, _ = mirror
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), served / "new.pth")
    digest = hashlib.sha256((served / "new.pth").read_bytes()).hexdigest()
    path = (served / "new.pth").rename(served / f"resnet18-{digest[:8]}.pth")
    # torchvision's enum names the file; only its name is ours here, for the true one is 45 MB elsewhere.
    monkeypatch.setattr(
        type(ResNet18_Weights.DEFAULT), "url", property(lambda _: f"https://example.org/{path.name}"), raising=False
    )
    return path


def test_resnet18_is_downloaded_once_and_fits(published: Path) -> None:
    first = weights.load_pretrained("resnet18", "default")
    served = torch.load(published, weights_only=True)
    assert all(torch.equal(tensor, served[name]) for name, tensor in first.model.state_dict().items())
    assert first.mean == [0.485, 0.456, 0.406]
    published.unlink()
    weights.load_pretrained("resnet18", "IMAGENET1K_V1")


def test_a_download_of_another_hash_is_refused_and_not_kept(published: Path, mirror: tuple[Path, Path]) -> None:
    published.write_bytes(published.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match="wrong hash"):
        weights.load_pretrained("resnet18", "default")
    assert not list(mirror[1].rglob("*.pth"))


@pytest.mark.usefixtures("published")
def test_a_damaged_cache_is_refused(mirror: tuple[Path, Path]) -> None:
    weights.load_pretrained("resnet18", "default")
    cached = next(mirror[1].rglob("*.pth"))
    cached.write_bytes(b"damaged")
    with pytest.raises(UserError, match="delete it"):
        weights.load_pretrained("resnet18", "default")


@pytest.mark.usefixtures("mirror")
def test_a_missing_file_or_network_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"answered 404.*save the file into weights/"):
        weights.load_pretrained("resnet18", "default")
    monkeypatch.setenv(weights.MIRROR, "http://127.0.0.1:9/")
    with pytest.raises(UserError, match=r"cannot be downloaded.*tf_efficientnet_lite0"):
        weights.load_pretrained("resnet18", "default")


def test_a_local_file_with_another_head_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    torch.save(resnet18(num_classes=7).state_dict(), "weights/own.pth")
    own = torch.load("weights/own.pth", weights_only=True)
    model = weights.load_pretrained("resnet18", "weights/own.pth").model
    assert torch.equal(model.state_dict()["layer4.1.conv2.weight"], own["layer4.1.conv2.weight"])


class Bomb:
    """Unpickling it would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("exploded", "w")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: resnet18(num_classes=3).layer1.state_dict(), "do not fit"),
        (lambda: {"epoch": 3, "state_dict": {}}, "not a plain state dict"),
        (lambda: {"weight": Bomb()}, "could run code"),
    ],
)
def test_weights_that_do_not_fit(
    content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    torch.save(content(), "weights/own.pth")  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        weights.load_pretrained("resnet18", "weights/own.pth")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("backbone", "name", "message"),
    [
        ("resnet19", "default", r"resnet1"),
        ("resnet18", "IMAGENET22K", r"IMAGENET1K_V1"),
        ("resnet18", "weights/none.pth", r"weights/none.pth does not exist"),
        ("tf_efficientnet_lite0", "IMAGENET1K_V1", r"'default' or a file"),
    ],
)
def test_unknown_names(backbone: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        weights.load_pretrained(backbone, name)


def test_weights_from_timms_hub_need_a_known_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files there can be replaced under the same name. (The hub itself is not asked here.)"""
    published = timm.create_model("resnet10t", pretrained=False)
    monkeypatch.setattr(weights, "_from_timm", lambda _: published)
    found = weights.fingerprint(published)
    with pytest.raises(UserError, match=f"have the fingerprint {found}, but .* is null"):
        weights.load_pretrained("resnet10t", "default")
    assert weights.load_pretrained("resnet10t", "default", found).model is published
    with torch.no_grad():
        next(published.parameters())[0] += 1
    with pytest.raises(UserError, match="if you trust where they come from"):
        weights.load_pretrained("resnet10t", "default", found)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("tf_efficientnet_lite0", "average_and_maximum"),
        ("resnet18", "average_and_maximum"),
        ("mobilenet_v3_small", "average"),
        ("vit_b_32", "average"),
        ("timm/resnet18", "average_and_maximum"),
        ("shufflenet_v2_x0_5", "average"),
        ("timm/vit_tiny_patch16_224", "average"),
    ],
)
def test_any_backbone_gives_features_and_a_head(name: str, pooling: str) -> None:
    model = registry.build(name, {"pooling": pooling, "dropout": 0.0}, 5).eval()
    images = torch.rand(2, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert model(images).shape == (2, 5)
        assert model.backbone(images).shape == (2, model.head.in_features)


def test_pooling_takes_the_mean_and_the_maximum() -> None:
    """torchvision's own ResNet up to its pooling, and NumPy from there."""
    torch.manual_seed(0)
    model = registry.build("resnet18", {"pooling": "average_and_maximum", "dropout": 0.0}, 2).eval()
    plain = torchvision.models.resnet18()
    plain.load_state_dict({**plain.state_dict(), **model.backbone.state_dict()})
    until = torch.nn.Sequential(*list(plain.eval().children())[:-2])
    with torch.inference_mode():
        images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
        features, maps = model.backbone(images).numpy(), until(images).numpy()
    assert features == pytest.approx(np.concatenate([maps.mean((2, 3)), maps.max((2, 3))], 1), rel=1e-4, abs=1e-5)


def small_model() -> tuple[Classifier, checkpoint.About]:
    about = checkpoint.About(
        title="small",
        architecture=small_cnn.NAME,
        options={"width": 4, "blocks": 2, "dropout": 0.0},
        classes=["a", "b"],
        resolution=32,
        flips=[],
        mean=[0.5] * 3,
        std=[0.5] * 3,
        curves=True,
    )
    return registry.build(about.architecture, about.options, 2), about


def calibration() -> Calibration:
    """Of three val images, with features of 4 numbers."""
    space = Space(torch.zeros(4), torch.eye(4)[:2], torch.ones(2, 2))
    known = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    return Calibration(1.5, known, torch.tensor([0, 1, 1]), known, space)


def test_checkpoints_of_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    about = small_model()[1]
    for name in ("one.pth", "another name.pth"):
        torch.manual_seed(0)
        model = registry.build(about.architecture, about.options, 2)
        checkpoint.save(tmp_path / name, model, about, calibration(), {"made_from": "0123"})
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "another name.pth").read_bytes()


def without_about(path: Path, *keys: str) -> None:
    """Make of the checkpoint one that does not know `keys`."""
    content = torch.load(path, weights_only=True)
    torch.save({**content, "about": {key: value for key, value in content["about"].items() if key not in keys}}, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "cannot be read"),
        (lambda path: path.write_text("text"), "cannot be read|could run code"),
        (lambda path: torch.save([1, 2], path), "not a checkpoint of darkroom's"),
        (lambda path: torch.save(small_model()[0].state_dict(), path), "not a checkpoint of darkroom's"),
        (
            lambda path: torch.save(
                {**torch.load(path), "state_dict": small_cnn.small_cnn(2, 8, 2, 0.0).state_dict()}, path
            ),
            "do not fit small_cnn",
        ),
        (lambda path: torch.save(small_model()[0], path), "could run code"),
        (
            lambda path: without_about(path, "title", "curves"),
            r"by an earlier version of Darkroom \(it lacks curves, title\)",
        ),
        (
            lambda path: torch.save(
                {key: value for key, value in torch.load(path).items() if key != "calibration"}, path
            ),
            r"by an earlier version of Darkroom \(it lacks calibration\)",
        ),
    ],
)
def test_checkpoints_are_refused(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "model.pth"
    checkpoint.save(path, *small_model(), calibration(), {})
    assert registry.load(path).about.classes == ["a", "b"]
    spoil(path)
    with pytest.raises(UserError, match=message):
        registry.load(path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "train_scratch",
            {"train_scratch": {"blocks": 7}},
            r"cannot be trained on 32 px squares.*train_scratch.blocks",
        ),
        (
            "train_finetune",
            {"train_finetune": {"backbone": "timm/vit_tiny_patch16_224"}},
            "has no pooling layer to replace: set train_finetune.pooling to average",
        ),
        (
            "train_finetune",
            {"train_finetune": {"backbone": "timm/vit_tiny_patch16_224", "pooling": "average"}},
            r"cannot be trained on 32 px",
        ),
        ("train_finetune", {"train_finetune": {"backbone": "squeezenet1_0"}}, r"does not end in a linear layer"),
        (
            "train_finetune",
            {"train_finetune": {"backbone": "fasterrcnn_resnet50_fpn"}},
            r"neither torchvision nor timm",
        ),
        ("train_finetune", {"train_finetune": {"weights": "../own.pth"}}, r"'default' or a file in weights/"),
    ],
)
def test_networks_that_do_not_fit(
    parted: Path, monkeypatch: pytest.MonkeyPatch, name: str, changes: dict[str, dict[str, object]], message: str
) -> None:
    set_params(parted, changes)

    def without_download(backbone: str, *_: object) -> weights.Pretrained:
        return weights.Pretrained(backbones.imagenet_model(backbone), [0.5] * 3, [0.5] * 3)

    if "vit" in str(changes) or "squeeze" in str(changes):
        monkeypatch.setattr(
            importlib.import_module("darkroom.stages.train_finetune"), "load_pretrained", without_download
        )
    with pytest.raises(UserError, match=message):
        stage(name)
    assert not list(parted.glob("models/*"))


def test_a_pooling_that_does_not_fit_is_refused_before_anything_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without images, and before weights are asked for; with the average alone the same network can be built."""
    monkeypatch.setattr(importlib.import_module("darkroom.stages.train_finetune"), "load_pretrained", pytest.fail)
    set_params(folder, {"train_finetune": {"backbone": "mobilenet_v3_small", "pooling": "average_and_maximum"}})
    with pytest.raises(
        UserError, match=r"'mobilenet_v3_small' has a Linear layer between .*set train_finetune.pooling to average$"
    ):
        stage("train_finetune")
    with pytest.raises(UserError, match="has a Linear layer between its pooling and its head"):
        registry.build("mobilenet_v3_small", {"pooling": "average_and_maximum", "dropout": 0.0}, 3)
    backbones.check_pooling("mobilenet_v3_small", "average")
    model = registry.build("mobilenet_v3_small", {"pooling": "average", "dropout": 0.0}, 3)
    assert model.head.out_features == 3
