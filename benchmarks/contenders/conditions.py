"""What all contenders have in common: the network, its weights, the size and number of images, and how accuracy is counted.

The peers run in another environment, which sees the packages of this one.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from darkroom.networks import backbones, small_cnn, weights
from darkroom.networks.classifier import Classifier

RESOLUTION, BATCH = 128, 32  # pixels, images
WARM_UP, STEPS = 3, 20  # batches before the clock starts, and while it runs
BACKBONE = "tf_efficientnet_lite0"


def network(name: str, classes: int) -> Classifier:
    """EfficientNet-Lite0 with its ImageNet weights for "lite0", or the small CNN of the default params for "small"."""
    if name == "small":
        return small_cnn.small_cnn(classes, width=32, blocks=5, dropout=0.0)
    backbone, features = pretrained_backbone()
    return Classifier(backbone, nn.Linear(features, classes))


def pretrained_backbone() -> tuple[Any, int]:
    """EfficientNet-Lite0 with its ImageNet weights up to its pooled features, and how many these are."""
    return backbones.without_head(weights.load_pretrained(BACKBONE, "default").model)


def either_flip(images: Tensor) -> Tensor:
    """An orientation per image, int64 (N,), as fastai numbers the eight of a square: one without a quarter turn."""
    return torch.tensor([0, 1, 2, 4])[torch.randint(4, (len(images),))]


def merged_accuracy(probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> float:
    """The share of images for which the last word of the predicted class is that of their class.

    Args:
        probabilities: float (N, classes).
        labels: int (N,), indices into `classes`.
        classes: Names such as mono-defective, or of a single word.
    """
    states = np.array([label.rsplit("-", 1)[-1] for label in classes])
    return float((states[probabilities.argmax(1)] == states[labels]).mean())
