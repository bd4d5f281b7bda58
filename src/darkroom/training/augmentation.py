"""Random changes of training images, a whole batch at a time. All augmentations are defined here.

Each augmentation draws its random numbers from a generator of its own, which is keyed by its name. Adding one therefore
changes no draw of the others.
"""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from darkroom.system.params import Section
from darkroom.training.randomness import generator

# How many random numbers each augmentation takes for one image in one epoch.
NUMBERS = {
    "flip_horizontal": 1,
    "flip_vertical": 1,
    "rotation": 1,
    "zoom": 1,
    "shift": 2,
    "contrast": 1,
    "brightness": 1,
    "erase": 5,
}
ERASED_AREA = (0.02, 1 / 3)  # share of the image, as in Zhong et al. 2020
ERASED_ASPECT = 0.3  # height over width lies between this and its inverse, as in Zhong et al. 2020

Draws = Mapping[str, Tensor]  # augmentation -> float32 (N, NUMBERS), uniform on [-1, 1)


class Augment(Section):
    """How far a training image may be changed.

    A flip hits half of the images, `erase` is a probability, and each other change is uniform between minus and plus its bound.
    """

    flip_horizontal: bool
    flip_vertical: bool
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees
    zoom: Annotated[float, Field(ge=0, le=1)]  # natural logarithm of the scale
    shift: Annotated[float, Field(ge=0, le=0.5)]  # share of the image's side
    contrast: Annotated[float, Field(ge=0, le=1)]  # relative change around mid-grey
    brightness: Annotated[float, Field(ge=0, le=1)]  # share of the whole range
    erase: Annotated[float, Field(ge=0, le=1)]  # probability


def flips(how: Augment) -> list[str]:
    """The flips that do not change the class of an image: "horizontal", "vertical", both or none."""
    return ["horizontal"] * how.flip_horizontal + ["vertical"] * how.flip_vertical


def draw(how: Augment, seed: int, epoch: int, count: int) -> dict[str, Tensor]:
    """The random numbers of one epoch for each augmentation that is switched on: float32 (count, NUMBERS), on [-1, 1)."""
    return {
        name: 2 * torch.rand(count, numbers, generator=generator(seed, epoch, name)) - 1
        for name, numbers in NUMBERS.items()
        if getattr(how, name)
    }


def augment(pixels: Tensor, draws: Draws, how: Augment) -> Tensor:
    """Change each image as its draws say.

    Args:
        pixels: float32 (N, 3, H, W), 0 to 255.
        draws: What `draw` gives, for these N images.
        how: The bounds.

    Returns:
        float32 (N, 3, H, W), 0 to 255.
    """
    warped = how.rotation or how.zoom or how.shift
    pixels = _warp(pixels, draws, how) if warped else _flip(pixels, draws)
    if how.contrast or how.brightness:
        pixels = _colour(pixels, draws, how)
    return _erase(pixels, draws["erase"], how.erase) if how.erase else pixels


def _flip(pixels: Tensor, draws: Draws) -> Tensor:
    """Mirror images exactly: no pixel is interpolated."""
    for name, axis in (("flip_horizontal", 3), ("flip_vertical", 2)):
        if name in draws:
            pixels = torch.where(draws[name][:, :, None, None] < 0, pixels.flip(axis), pixels)
    return pixels


def _warp(pixels: Tensor, draws: Draws, how: Augment) -> Tensor:
    """Mirror, rotate, zoom and shift in one interpolation. Pixels from outside the frame are mirrored at its edge."""
    zero = pixels.new_zeros(len(pixels), 1)
    angle = draws.get("rotation", zero)[:, 0] * math.radians(how.rotation)
    scale = torch.exp(draws.get("zoom", zero)[:, 0] * how.zoom)
    mirror_x = torch.where(draws.get("flip_horizontal", zero)[:, 0] < 0, -1.0, 1.0)
    mirror_y = torch.where(draws.get("flip_vertical", zero)[:, 0] < 0, -1.0, 1.0)
    shift = 2 * how.shift * draws.get("shift", zero.expand(-1, 2))  # affine_grid measures the image's side as 2
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cosine * mirror_x, -sine * mirror_y, shift[:, 0]], 1),
            torch.stack([sine * mirror_x, cosine * mirror_y, shift[:, 1]], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _colour(pixels: Tensor, draws: Draws, how: Augment) -> Tensor:
    """Change contrast around mid-grey, then brightness."""
    zero = pixels.new_zeros(len(pixels), 1)
    factor = 1 + how.contrast * draws.get("contrast", zero)[:, :, None, None]
    offset = 127.5 * (1 + 2 * how.brightness * draws.get("brightness", zero)[:, :, None, None])
    return ((pixels - 127.5) * factor + offset).clamp(0, 255)


def _erase(pixels: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Random erasing (Zhong et al. 2020): with `probability`, fill a rectangle with the image's mean colour."""
    side_y, side_x = pixels.shape[2:]
    chance, area, aspect, y, x = ((draws + 1) / 2).unbind(1)  # uniform on [0, 1)
    area = ERASED_AREA[0] + area * (ERASED_AREA[1] - ERASED_AREA[0])
    aspect = torch.exp((2 * aspect - 1) * math.log(1 / ERASED_ASPECT))
    height, width = torch.sqrt(area * aspect).clamp(max=1), torch.sqrt(area / aspect).clamp(max=1)
    top, left = y * (1 - height), x * (1 - width)
    rows = (torch.arange(side_y, device=pixels.device) + 0.5) / side_y
    columns = (torch.arange(side_x, device=pixels.device) + 0.5) / side_x
    inside_y = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    inside_x = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    erased = (inside_y[:, :, None] & inside_x[:, None, :])[:, None] & (chance < probability)[:, None, None, None]
    return torch.where(erased, pixels.mean((2, 3), keepdim=True), pixels)
