"""The forward pass that evaluate, tsne and the trainings share: from pixels to logits and features."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import Classifier
from darkroom.system import device
from darkroom.system.params import Run

BATCH = 16  # images per pass; the maps of more do not fit into the CPU's caches, which is slower
AXES = {"horizontal": 3, "vertical": 2}  # of (N, C, H, W)


def as_tensor(pixels: np.ndarray, where: torch.device) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W), 0 to 255, in channels-last memory order."""
    return torch.from_numpy(pixels).to(where).permute(0, 3, 1, 2).float()


def normalised(pixels: Tensor, about: About) -> Tensor:
    """float32 (N, 3, H, W), 0 to 255, normalised by the mean and std of the model."""
    mean, std = (torch.tensor(value, device=pixels.device).view(1, 3, 1, 1) for value in (about.mean, about.std))
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def views(about: About) -> list[tuple[int, ...]]:
    """The axes to flip in each view that is averaged; the first is (), the image itself."""
    axes = [AXES[name] for name in about.flips]
    return [chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count)]


def predict(model: torch.nn.Module, pixels: np.ndarray, about: About, run: Run) -> np.ndarray:
    """The output of `model` for each image, in evaluation mode: float32 (N, outputs).

    A Classifier gives logits, its backbone gives features.
    """
    model.to(device.choose(run)).eval()
    with torch.inference_mode(), device.precision(run):
        outputs = [model(images).float().cpu() for images in batches(pixels, about, run)]
    return torch.cat(outputs).numpy()


def look(model: Classifier, pixels: np.ndarray, about: About, run: Run) -> tuple[Tensor, Tensor]:
    """All that a model says about images: the logits of each of their `views`, float32 (views, N, K), and the features (N, D)."""
    model.to(device.choose(run)).eval()
    logits = []
    with torch.inference_mode(), device.precision(run):
        for flip in views(about):
            of_view = [model.backbone(images) for images in batches(pixels, about, run, flip)]
            logits.append(torch.cat([model.head(some).float().cpu() for some in of_view]))
            if not flip:
                features = torch.cat([some.float().cpu() for some in of_view])
    return torch.stack(logits), features


def batches(pixels: np.ndarray, about: About, run: Run, flip: tuple[int, ...] = ()) -> Iterator[Tensor]:
    """The input of the network, `BATCH` images at a time. `flip` is one of `views`."""
    where = device.choose(run)
    for at in range(0, len(pixels), BATCH):
        images = as_tensor(pixels[at : at + BATCH], where)
        yield normalised(images.flip(flip) if flip else images, about)


def score(
    model: torch.nn.Module, pixels: np.ndarray, labels: np.ndarray, about: About, run: Run
) -> tuple[float, float]:
    """Mean cross-entropy, in nats, and accuracy on images with known labels, int64 (N,)."""
    logits, actual = torch.from_numpy(predict(model, pixels, about, run)), torch.from_numpy(labels)
    return functional.cross_entropy(logits, actual).item(), (logits.argmax(1) == actual).double().mean().item()
