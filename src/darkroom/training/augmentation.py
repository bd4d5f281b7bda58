"""Random changes of training images, a whole batch at a time. Here, and nowhere else, augmentations are defined."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from darkroom.system.params import Section

DRAWS = 8  # random numbers that one image takes in one epoch


class Augment(Section):
    """How far a training image may be changed; each change is drawn evenly from minus to plus its bound."""

    flip_horizontal: bool
    flip_vertical: bool
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees
    zoom: Annotated[float, Field(ge=0, le=1)]  # of the natural logarithm of the scale
    shift: Annotated[float, Field(ge=0, le=0.5)]  # of the image's side
    contrast: Annotated[float, Field(ge=0, le=1)]  # factor around mid-grey
    brightness: Annotated[float, Field(ge=0, le=1)]  # of the whole range


def flips(how: Augment) -> list[str]:
    """Under which flips an image stays the same thing."""
    return ["horizontal"] * how.flip_horizontal + ["vertical"] * how.flip_vertical


def augment(pixels: Tensor, draws: Tensor, how: Augment) -> Tensor:
    """Change each image in the way that its own draws say.

    Args:
        pixels: float32 (N, 3, H, W), 0 to 255.
        draws: float32 (N, DRAWS), even on [0, 1).
        how: The bounds.

    Returns:
        float32 (N, 3, H, W), 0 to 255. What is turned or moved into the frame is the image's reflection.
    """
    draw = 2 * draws - 1
    warped = how.rotation or how.zoom or how.shift
    pixels = _warp(pixels, draw, how) if warped else _flip(pixels, draw, how)
    if how.contrast or how.brightness:
        factor = 1 + how.contrast * draw[:, 6, None, None, None]
        offset = 127.5 * (1 + 2 * how.brightness * draw[:, 7, None, None, None])
        pixels = ((pixels - 127.5) * factor + offset).clamp(0, 255)
    return pixels


def _flip(pixels: Tensor, draw: Tensor, how: Augment) -> Tensor:
    """Mirror images exactly: no pixel is interpolated."""
    if how.flip_horizontal:
        pixels = torch.where(draw[:, 0, None, None, None] < 0, pixels.flip(3), pixels)
    if how.flip_vertical:
        pixels = torch.where(draw[:, 1, None, None, None] < 0, pixels.flip(2), pixels)
    return pixels


def _warp(pixels: Tensor, draw: Tensor, how: Augment) -> Tensor:
    """Mirror, turn, zoom and move in one interpolation."""
    angle = draw[:, 2] * math.radians(how.rotation)
    scale = torch.exp(draw[:, 3] * how.zoom)
    mirror_x = torch.where(draw[:, 0] < 0, -1.0, 1.0) if how.flip_horizontal else torch.ones_like(angle)
    mirror_y = torch.where(draw[:, 1] < 0, -1.0, 1.0) if how.flip_vertical else torch.ones_like(angle)
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = 2 * how.shift * draw[:, 4:6]  # affine_grid measures the image's side as 2
    theta = torch.stack(
        [
            torch.stack([cosine * mirror_x, -sine * mirror_y, shift[:, 0]], 1),
            torch.stack([sine * mirror_x, cosine * mirror_y, shift[:, 1]], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
