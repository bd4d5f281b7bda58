"""Picture of the stage split: look-alikes on two of its sides."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from darkroom.pictures.style import grid

Captioned = tuple[Image.Image, str]
SIDE = 512  # pixels of an image at most, about twice what its place in the picture has


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
