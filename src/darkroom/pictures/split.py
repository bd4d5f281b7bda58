"""Picture of the stage split: look-alikes on two of its sides."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from darkroom.pictures.style import grid

Captioned = tuple[Image.Image, str]
SIDE = 512  # pixels of an image at most, about twice what its place in the picture has


def small(image: Image.Image) -> Image.Image:
    """The image, shrunk to `SIDE` if it is larger: many photos at full size would fill the memory."""
    image.thumbnail((SIDE, SIDE))
    return image


def pairs(shown: Sequence[tuple[Captioned, Captioned]], path: str | Path) -> None:
    """Two pairs of images per row; each image has a caption."""
    rows = max(1, -(-len(shown) // 2))
    with grid(path, rows, 4, (8, 2.2 * rows)) as axes:
        for ax in axes.flat:
            ax.axis("off")
        if not shown:
            axes[0, 0].text(0, 0.5, "no look-alikes across train, val and test")
        captioned = [one for pair in shown for one in pair]
        for ax, (image, caption) in zip(axes.flat, captioned, strict=False):
            ax.imshow(image)
            ax.set_title(caption)
