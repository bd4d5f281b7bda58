"""What all contenders share: the same network, weights, optimizer and number of images."""

from typing import Any

import numpy as np
import torch

RESOLUTION, BATCH, IMAGES, WARM_UP = 128, 32, 640, 3  # pixels, images, images timed, batches before


def network(name: str, classes: int) -> Any:
    """EfficientNet-Lite0 with its ImageNet weights, or the small CNN of the default params."""
    from darkroom.networks import models, weights

    if name == "small":
        return models.small_cnn(classes, width=32, blocks=5, dropout=0.0)
    backbone, features = models.without_head(weights.load_pretrained("tf_efficientnet_lite0", "default").model)
    return models.Classifier(backbone, torch.nn.Linear(features, classes))


def either_flip(images: torch.Tensor) -> torch.Tensor:
    """Of the eight turns of a square that fastai numbers, those without a quarter turn: as our recipe mirrors."""
    return torch.tensor([0, 1, 2, 4])[torch.randint(4, (len(images),))]


def merged_accuracy(probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> float:
    """Share of images whose state (the last word of the class) is the predicted class's."""
    states = np.array([label.rsplit("-", 1)[-1] for label in classes])
    return float((states[probabilities.argmax(1)] == states[labels]).mean())
