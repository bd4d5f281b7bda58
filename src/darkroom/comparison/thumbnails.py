"""Changed images as pictures, fetched from the revision that has them."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from darkroom.comparison.data_diff import Change, Row
from darkroom.data.images import open_rgb
from darkroom.data.layout import RAW
from darkroom.pictures.style import grid
from darkroom.system import git

SHOWN = 48  # images at most
COLUMNS = 6
MISSING = Image.new("RGB", (64, 64), "lightgrey")


def of_changes(changes: Sequence[Change], old: str | None, new: str | None, path: Path) -> None:
    """A sheet of thumbnails, each under what happened to it; grey where DVC's cache no longer has the image."""
    shown = [change for change in changes if change.kind != "left out"][:SHOWN]
    images = [(fetch(change.new, new) if change.new else fetch(change.old, old), caption(change)) for change in shown]
    captioned_sheet(images, path)


def fetch(row: Row | None, revision: str | None) -> Image.Image:
    """The image as it was at `revision` (None: the work tree), from the work tree or DVC's cache."""
    assert row is not None
    place = str(RAW / row.path)
    try:
        if revision is None:
            return open_rgb(place)
        return open_rgb(io.BytesIO(_files(revision).read_bytes(git.read("rev-parse", "--show-prefix") + place)))
    except Exception:  # DVC has many ways to say that its cache lacks a file
        return MISSING


@cache
def _files(revision: str) -> Any:
    """DVC's view of a revision. To open it takes a third of a second, to read an image from it hardly any."""
    from dvc.api import DVCFileSystem  # slow to load, and seldom needed

    return DVCFileSystem(rev=revision, subrepos=True)  # its top is Git's, which need not be the project's


def caption(change: Change) -> str:
    """Two short lines: what, and from where to where."""
    old, new = change.old, change.new
    match change.kind, old, new:
        case "relabelled", Row(), Row():
            return f"relabelled\n{old.label} to {new.label}"
        case "moved", Row(), Row():
            return f"moved\n{old.split} to {new.split}"
        case _:
            row = new or old
            assert row is not None
            return f"{change.kind}\n{row.label}, {row.split}"


def captioned_sheet(shown: Sequence[tuple[Image.Image, str]], path: Path) -> None:
    """Thumbnails, six per row, each under its caption."""
    rows = max(1, -(-len(shown) // COLUMNS))
    with grid(path, rows, COLUMNS, (10, 1.9 * rows)) as axes:
        for ax in axes.flat:
            ax.axis("off")
        for ax, (image, caption) in zip(axes.flat, shown, strict=False):
            ax.imshow(image)
            ax.set_title(caption, fontsize=7)
