"""What is measured when a training is over: the temperature, and what the features of known images look like."""

import numpy as np
import torch
from torch import Tensor

from darkroom.data.images import Folder
from darkroom.networks import forward
from darkroom.networks.calibration import Calibration, Space, calibrated, direction_and_length, unlikeness
from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import Classifier
from darkroom.system.params import Run

COMPONENTS = 32  # at most; benchmarks/results/unknown.md
SAMPLE = 2000  # training images at most whose features are looked at: they are enough for so few components
TEMPERATURES = 0.05, 20.0  # the ends of the first grid that is searched; the finer ones may go a step beyond


def calibrate(model: Classifier, about: About, train: Folder, val: Folder, run: Run) -> Calibration:
    """Measure on val how sure the trained `model` may be, and on train and val what the features of known images look like."""
    labels = torch.from_numpy(val.labels)
    logits, features = forward.look(model, val.pixels, about, run)
    temperature = fit_temperature(logits, labels)
    scores = 1 - calibrated(logits, temperature)[torch.arange(len(labels)), labels].round(decimals=6)
    order = np.lexsort((scores.numpy(), val.labels))
    chosen = np.linspace(0, len(train.labels) - 1, min(SAMPLE, len(train.labels))).round().astype(np.int64)
    space = space_of(torch.from_numpy(forward.predict(model.backbone, train.pixels[chosen], about, run)))
    of_val = unlikeness(features, space).round(decimals=6).sort().values
    return Calibration(temperature, scores[order], labels[order], of_val, space)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the lowest mean cross-entropy of the averaged probabilities, to three digits.

    If the model makes no mistake, it is at least 1: val then says nothing against any certainty, and the lowest one would win.

    It is searched on a grid that becomes finer around the best value: SciPy's search would make every training depend on the pins
    of the charts' packages.

    Args:
        logits: (views, V, K).
        labels: int64 (V,).
    """
    images = torch.arange(len(labels))

    def loss(temperature: float) -> float:
        return float(-calibrated(logits, temperature)[images, labels].clamp(min=1e-12).log().mean())

    is_right = calibrated(logits, 1.0).argmax(1) == labels
    least = 1.0 if is_right.all() else 0.0
    low, high = np.log(TEMPERATURES)
    for _ in range(3):
        grid = np.linspace(low, high, 41)
        best = grid[np.argmin([loss(float(np.exp(value))) for value in grid])]
        low, high = best - (grid[1] - grid[0]), best + (grid[1] - grid[0])
    return max(float(f"{np.exp(best):.3g}"), least)


def space_of(features: Tensor) -> Space:
    """Where the features (N, D) of training images lie."""
    directions = torch.nn.functional.normalize(features.double()).numpy()
    centre = directions.mean(0)
    _, vectors = np.linalg.eigh(np.cov(directions - centre, rowvar=False).reshape(len(centre), -1))
    components = vectors[:, ::-1][:, : min(COMPONENTS, len(features) - 1)].T.astype(np.float32)
    of_train = torch.from_numpy(centre.astype(np.float32)), torch.from_numpy(components.copy())
    measured = direction_and_length(features, *of_train)
    typical = torch.stack([torch.stack([part.mean(), part.std(correction=0).clamp(min=1e-6)]) for part in measured])
    return Space(*of_train, typical.float())
