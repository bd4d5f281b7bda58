"""The networks: a small CNN of our own, and the pretrained backbones of torchvision and timm."""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

import timm
import torch
import torchvision
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from darkroom.system.errors import UserError

SMALL_CNN = "small_cnn"

Pooling = Literal["average", "average_and_maximum"]


class Classifier(nn.Module):
    """A backbone that ends in pooled features, and a linear head.

    Args:
        backbone: (N, 3, H, W) float32 to (N, features) float32.
        head: The layer from features to logits.
        dropout: The share of features dropped before the head while training.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 (N, classes)."""
        logits: Tensor = self.head(self.dropout(self.backbone(images)))
        return logits


def build(architecture: str, options: Mapping[str, Any], classes: int) -> Classifier:
    """A classifier with fresh weights from torch's global generator, channels last.

    Raises:
        UserError: No such architecture.
        TypeError: It does not take these options.
    """
    if architecture == SMALL_CNN:
        model = small_cnn(classes=classes, **options)
    else:
        model = imagenet_classifier(architecture, classes=classes, **options)
    # One memory format everywhere: BatchNorm rounds differently in another. This one is the fast one on CPUs and GPUs.
    return model.to(memory_format=torch.channels_last)


def check(model: Classifier, resolution: int, way_out: str) -> None:
    """See to it that `model` can be trained on squares of `resolution` pixels; `way_out` is what else can be changed.

    Raises:
        UserError: It takes no pictures of this size, or gives more than logits while it trains.
    """
    probe = copy.deepcopy(model).train()
    try:
        with torch.no_grad():
            logits = probe(torch.zeros(2, 3, resolution, resolution).contiguous(memory_format=torch.channels_last))
    except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"this network cannot be trained on {resolution} px squares ({reason}): {way_out}, or change "
            "images.resolution in params.yaml"
        ) from None
    if not isinstance(logits, Tensor) or logits.shape != (2, model.head.out_features):
        raise UserError(
            "this backbone does not give one row of features an image: choose another train_finetune.backbone"
        )


def small_cnn(classes: int, width: int, blocks: int, dropout: float) -> Classifier:
    """Blocks of convolution, BatchNorm and ReLU, each halving the side, then global average pooling.

    Args:
        classes: The number of classes.
        width: Channels of the first block; each further block doubles them, up to 8 times.
        blocks: How many blocks; the input's side must be at least twice 2 to their power.
        dropout: The share of features dropped before the head while training.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for index in range(blocks):
        wider = width * min(2**index, 8)
        # The first convolution strides: at full resolution it would take most of the time and tell little more.
        stride = 2 if index == 0 else 1
        layers[f"block{index + 1}"] = nn.Sequential(
            nn.Conv2d(channels, wider, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        channels = wider
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    return Classifier(nn.Sequential(layers), nn.Linear(channels, classes), dropout)


def imagenet_classifier(architecture: str, classes: int, pooling: Pooling, dropout: float) -> Classifier:
    """The network `architecture` with a head of our own.

    Args:
        architecture: A name that `imagenet_model` knows.
        classes: The number of classes.
        pooling: What becomes of its last maps. The average tells how much of something there is, the maximum whether it is
            anywhere: a crack is small.
        dropout: The share of features dropped before the head while training.

    Raises:
        UserError: No such architecture, or it does not end in an average over its maps.
    """
    backbone, features = without_head(imagenet_model(architecture))
    if pooling == "average_and_maximum":
        pools = [
            name
            for name, module in backbone.named_modules()
            if isinstance(module, (nn.AdaptiveAvgPool2d, SelectAdaptivePool2d))
        ]
        if not pools:
            raise UserError(f"'{architecture}' has no pooling layer to replace: set train_finetune.pooling to average")
        flatten = isinstance(backbone.get_submodule(pools[-1]), SelectAdaptivePool2d)  # torchvision flattens later
        _replace(backbone, pools[-1], AverageAndMaximum(flatten))
        features *= 2
    return Classifier(backbone, nn.Linear(features, classes), dropout)


class AverageAndMaximum(nn.Module):
    """The mean and the maximum of each map: float32 (N, C, H, W) to (N, 2 C), or (N, 2 C, 1, 1) where it does not flatten.

    Common in fastai's models, which call it concat pooling.
    """

    def __init__(self, flatten: bool) -> None:
        super().__init__()
        self.flatten = flatten

    def forward(self, maps: Tensor) -> Tensor:
        """Pool."""
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        return pooled if self.flatten else pooled[:, :, None, None]


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place `name` of `model`."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def imagenet_model(name: str) -> nn.Module:
    """The network `name` with its 1000-class head and fresh weights.

    torchvision's names come first; `timm/NAME` asks for timm's where both have one.

    Raises:
        UserError: Neither library knows the name.
    """
    if is_torchvision(name):
        return get_model(name, weights=None)
    plain = name.removeprefix("timm/")
    if timm.is_model(plain):
        try:
            model: nn.Module = timm.create_model(plain, pretrained=False)
        except RuntimeError as error:  # the name is right, and its tag is not
            raise UserError(
                f"timm does not make '{plain}' ({error}): mend train_finetune.backbone in params.yaml"
            ) from None
        return model
    close = get_close_matches(plain, [*_torchvision_names(), *timm.list_models()], n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists hundreds"
    raise UserError(
        f"neither torchvision nor timm has a backbone '{name}': mend train_finetune.backbone in params.yaml; {hint}"
    )


def is_torchvision(name: str) -> bool:
    """Whether `name` is one of torchvision's classifiers (and not asked of timm)."""
    return name in _torchvision_names()


def _torchvision_names() -> list[str]:
    return list_models(module=torchvision.models)


def head_name(model: nn.Module) -> str:
    """The name of the last linear layer of `model`: its head.

    Raises:
        UserError: The model has no linear layer.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(
            "this backbone does not end in a linear layer: choose another train_finetune.backbone in params.yaml"
        )
    return linear[-1]


def without_head(model: nn.Module) -> tuple[nn.Module, int]:
    """`model` with its head replaced by the identity, and the width of the features that it now gives."""
    name = head_name(model)
    head = model.get_submodule(name)
    assert isinstance(head, nn.Linear)
    _replace(model, name, nn.Identity())
    return model, head.in_features
