"""Models that need no project: a network with made-up calibration, as a checkpoint has it."""

from typing import Any

import torch

from darkroom.networks.calibration import Calibration, Space
from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import Classifier
from darkroom.networks.registry import Model


def model_of(network: Classifier, architecture: str, options: dict[str, Any], side: int, flips: list[str]) -> Model:
    """`network` for images of `side` pixels, with 60 val images that it knew well."""
    classes, width = network.head.out_features, network.head.in_features
    names = [f"class {k}" for k in range(classes)]
    about = About("handmade", architecture, options, names, side, flips, [0.5] * 3, [0.2] * 3, False)
    scores, unlikeness = torch.linspace(0, 0.6, 60).double(), torch.linspace(0, 9, 60).double()
    space = Space(torch.zeros(width), torch.zeros(1, width), torch.ones(2, 2))
    labels = (torch.arange(60) * classes // 60).long()
    return Model(network.eval(), about, Calibration(1.5, scores, labels, unlikeness, space))
