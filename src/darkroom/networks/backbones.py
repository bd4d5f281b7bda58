"""Backbones of torchvision and timm, as classifiers."""

from difflib import get_close_matches
from typing import Literal

import timm
import torch
import torchvision
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from darkroom.networks.classifier import Classifier
from darkroom.system.errors import UserError

Pooling = Literal["average", "average_and_maximum"]


def imagenet_classifier(architecture: str, classes: int, pooling: Pooling, dropout: float) -> Classifier:
    """The network `architecture` with a new head for `classes`.

    Args:
        architecture: A name that `imagenet_model` knows.
        classes: The number of classes.
        pooling: How its last maps become features. The average says how much of a pattern there is, the maximum whether it
            occurs at all, which is good for small things such as cracks.
        dropout: The share of features dropped before the head while training.

    Raises:
        UserError: No such architecture, or its pooling layer cannot be replaced.
    """
    backbone, features = without_head(imagenet_model(architecture))
    if pooling == "average_and_maximum":
        pool = _pooling_layer(backbone, architecture)
        flatten = isinstance(backbone.get_submodule(pool), SelectAdaptivePool2d)  # torchvision flattens later
        _replace(backbone, pool, AverageAndMaximum(flatten))
        features *= 2
    model = Classifier(backbone, nn.Linear(features, classes), dropout)
    return model.to(memory_format=torch.channels_last)  # as in small_cnn.py


def check_pooling(architecture: str, pooling: Pooling) -> None:
    """Refuse a pooling that the network `architecture` cannot have. No weights are needed.

    Raises:
        UserError: No such architecture, or its pooling layer cannot be replaced.
    """
    backbone, _ = without_head(imagenet_model(architecture))
    if pooling == "average_and_maximum":
        _pooling_layer(backbone, architecture)


def _pooling_layer(backbone: nn.Module, architecture: str) -> str:
    """The name of the layer that averages the last maps.

    Raises:
        UserError: There is none, or layers with weights lie between it and the head, which were trained on averages.
    """
    names = [name for name, _ in backbone.named_modules()]
    pools = [
        name for name in names if isinstance(backbone.get_submodule(name), (nn.AdaptiveAvgPool2d, SelectAdaptivePool2d))
    ]
    if not pools:
        raise UserError(f"'{architecture}' has no pooling layer to replace: set train_finetune.pooling to average")
    later = [
        backbone.get_submodule(name) for name in names[names.index(pools[-1]) + 1 :] if not name.startswith(pools[-1])
    ]
    hidden = [type(layer).__name__ for layer in later if list(layer.parameters(recurse=False))]
    if hidden:
        raise UserError(
            f"'{architecture}' has a {hidden[0]} layer between its pooling and its head, which was trained on averages: set "
            "train_finetune.pooling to average"
        )
    return pools[-1]


class AverageAndMaximum(nn.Module):
    """The mean and the maximum of each map: float32 (N, C, H, W) to (N, 2 C), or (N, 2 C, 1, 1) without `flatten`.

    fastai calls it concat pooling.
    """

    def __init__(self, flatten: bool) -> None:
        super().__init__()
        self.flatten = flatten

    def forward(self, maps: Tensor) -> Tensor:
        """Pool."""
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        return pooled if self.flatten else pooled[:, :, None, None]


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule `name` of `model`."""
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
    close = get_close_matches(plain, {*_torchvision_names(), *timm.list_models()}, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists hundreds"
    raise UserError(
        f"neither torchvision nor timm has a backbone '{name}': mend train_finetune.backbone in params.yaml; {hint}"
    )


def is_torchvision(name: str) -> bool:
    """Whether `name` is one of torchvision's classifiers."""
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
    """`model` with its head replaced by the identity, and the width of its features."""
    name = head_name(model)
    head = model.get_submodule(name)
    assert isinstance(head, nn.Linear)
    _replace(model, name, nn.Identity())
    return model, head.in_features
