"""What a checkpoint holds beside its weights, so that its answers mean what they say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Space:
    """Where the features of training images lie. See `unlikeness`.

    Attributes:
        centre: float32 (D,), the mean direction of the features.
        components: float32 (C, D), the principal components of the directions.
        typical: float32 (2, 2), for the unexplained part of the direction and for the logarithm of the length: mean and
            standard deviation.
    """

    centre: Tensor
    components: Tensor
    typical: Tensor


@dataclass(frozen=True)
class Calibration:
    """What was measured on val and on train when the training was over (training/calibrate.py).

    Attributes:
        temperature: By which the logits are divided before the softmax (Guo et al. 2017).
        scores: float64 (V,), for each val image 1 - the probability of its class. They serve any error rate.
        labels: int64 (V,), ascending: the classes of these images.
        unlikeness: float64 (V,), ascending: how unlike the training images the val images are.
        space: Where the features of training images lie.
    """

    temperature: float
    scores: Tensor
    labels: Tensor
    unlikeness: Tensor
    space: Space


def from_tree(tree: Mapping[str, Any]) -> Calibration:
    """The calibration that a checkpoint holds as plain values (`dataclasses.asdict`).

    Raises:
        KeyError, TypeError: It is that of another version.
    """
    return Calibration(**{**tree, "space": Space(**tree["space"])})


def calibrated(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities, float64 (N, K), from the logits (views, N, K): the mean over the views of an image."""
    return (logits.double() / temperature).softmax(2).mean(0)


def unlikeness(features: Tensor, space: Space) -> Tensor:
    """How unlike the training images each image is, float64 (N,), from its features (N, D), which the head reads.

    The features of an unknown image point in another direction, or are longer or shorter. Both are measured in standard
    deviations over the training images, and their squares are added: the part of the direction that the principal components do
    not explain (the residual of Wang et al. 2022), as far as it is more than usual, and the logarithm of the length.
    """
    (mean, std), (mean_length, std_length) = space.typical.double()
    residual, length = direction_and_length(features, space.centre, space.components)
    return ((residual - mean) / std).clamp(min=0) ** 2 + ((length - mean_length) / std_length) ** 2


def direction_and_length(features: Tensor, centre: Tensor, components: Tensor) -> tuple[Tensor, Tensor]:
    """float64 (N,) each: the length of the unexplained part of the direction, and the logarithm of the length."""
    features, centre, components = features.double(), centre.double(), components.double()
    length = torch.linalg.vector_norm(features, dim=1).clamp(min=1e-12)
    centred = features / length[:, None] - centre
    unexplained = centred - centred @ components.T @ components
    return torch.linalg.vector_norm(unexplained, dim=1), length.log()
