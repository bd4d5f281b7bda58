"""Picture of the stage split: look-alikes across train and test."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from darkroom.pictures.style import grid


def pairs(shown: Sequence[tuple[Image.Image, Image.Image, str]], path: str | Path) -> None:
    """Two pairs of images per row; each pair is (train image, test image, caption)."""
    rows = max(1, -(-len(shown) // 2))
    with grid(path, rows, 4, (8, 2.2 * rows)) as axes:
        for ax in axes.flat:
            ax.axis("off")
        if not shown:
            axes[0, 0].text(0, 0.5, "no near duplicates across train and test")
        for index, (first, second, caption) in enumerate(shown):
            left, right = axes[index // 2, index % 2 * 2], axes[index // 2, index % 2 * 2 + 1]
            left.imshow(first)
            left.set_title(f"train, {caption}")
            right.imshow(second)
            right.set_title("test")
