"""Pixels to a network's input, and a trained network's output."""

import numpy as np
import torch
from torch import Tensor

from darkroom.checkpoint import About

BATCH = 64  # images; a forward pass gains nothing from more


def as_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W), 0 to 255, channels last in memory: no pixel is moved."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float()


def normalised(pixels: Tensor, about: About) -> Tensor:
    """float32 (N, 3, H, W), 0 to 255, as what the network expects."""
    mean = torch.tensor(about.mean).view(1, 3, 1, 1)
    std = torch.tensor(about.std).view(1, 3, 1, 1)
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def predict(model: torch.nn.Module, pixels: np.ndarray, about: About) -> np.ndarray:
    """What `model` gives for each image, in evaluation mode and in order: float32 (N, outputs).

    Pass a Classifier for logits, its backbone for features.
    """
    model.eval()
    with torch.inference_mode():
        batches = range(0, len(pixels), BATCH)
        outputs = [model(normalised(as_tensor(pixels[at : at + BATCH]), about)) for at in batches]
    return torch.cat(outputs).numpy()
