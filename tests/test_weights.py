"""Pretrained weights: the right ones, from where they should come, or a sentence."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.transforms.v2 import functional as transforms

from conftest import ROOT, run, set_params
from darkroom.networks import models, weights
from darkroom.system.errors import UserError


@pytest.mark.parametrize(("picture", "name"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_packaged_weights_know_what_they_see(picture: str, name: str) -> None:
    pretrained = weights.load_pretrained("tf_efficientnet_lite0", "default")
    image = transforms.to_image(Image.fromarray(load_sample_image(picture)))
    image = transforms.center_crop(transforms.resize(image, [256], antialias=True), [224])
    image = transforms.normalize(transforms.to_dtype(image, torch.float32, scale=True), pretrained.mean, pretrained.std)
    with torch.inference_mode():
        first = int(pretrained.model.eval()(image[None]).argmax())
    assert ResNet18_Weights.DEFAULT.meta["categories"][first] == name


def test_fine_tuning_starts_from_them_and_from_a_head_of_zeros(folder: Path) -> None:
    """Seen in what hardly learns; and BatchNorm keeps the statistics that it came with."""
    set_params(folder, {"train_finetune": {"lr": 1e-12, "head_lr": 1e-12}})
    for name in ("split", "stats", "train_finetune"):
        run(sys.executable, ROOT / "src/darkroom", name, cwd=folder)
    state = torch.load(folder / "models/finetune.pth", weights_only=True)["state_dict"]
    backbone, _ = models.without_head(weights.load_pretrained("tf_efficientnet_lite0", "default").model)
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
