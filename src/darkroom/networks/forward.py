"""Pixels to a network's input, and a trained network's output."""

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from darkroom.networks.checkpoint import About
from darkroom.system import device
from darkroom.system.params import Run

BATCH = 16  # images; maps of more leave the caches, and a pass gets slower
AXES = {"horizontal": 3, "vertical": 2}  # of (N, C, H, W)


def as_tensor(pixels: np.ndarray, where: torch.device) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W), 0 to 255, channels last in memory: no pixel is moved."""
    return torch.from_numpy(pixels).to(where).permute(0, 3, 1, 2).float()


def normalised(pixels: Tensor, about: About) -> Tensor:
    """float32 (N, 3, H, W), 0 to 255, as what the network expects."""
    mean, std = (torch.tensor(own, device=pixels.device).view(1, 3, 1, 1) for own in (about.mean, about.std))
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def views(about: About) -> list[tuple[int, ...]]:
    """The mirror images that mean the same to the model: for each the axes to flip, first of all none."""
    axes = [AXES[name] for name in about.flips]
    return [chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count)]


def predict(
    model: torch.nn.Module, pixels: np.ndarray, about: About, run: Run, flip: tuple[int, ...] = ()
) -> np.ndarray:
    """What `model` gives for each image, in evaluation mode and in order: float32 (N, outputs).

    Pass a Classifier for logits, its backbone for features. `flip` is one of `views`.
    """
    where = device.choose(run)
    model.to(where).eval()
    outputs = []
    with torch.inference_mode(), device.precision(run):
        for at in range(0, len(pixels), BATCH):
            images = as_tensor(pixels[at : at + BATCH], where)
            outputs.append(model(normalised(images.flip(flip) if flip else images, about)).float().cpu())
    return torch.cat(outputs).numpy()


def probabilities(model: torch.nn.Module, pixels: np.ndarray, about: About, run: Run, mirror: bool) -> np.ndarray:
    """Softmax of the logits, float64 (N, classes), rounded to the 6 digits of plots/predictions.csv.

    With `mirror` it is the mean over the image and the mirror images that the model was trained with (`views`).
    """
    chosen = views(about) if mirror else [()]
    logits = [torch.from_numpy(predict(model, pixels, about, run, flip)).double() for flip in chosen]
    mean: np.ndarray = torch.stack(logits).softmax(2).mean(0).numpy().round(6)
    return mean
