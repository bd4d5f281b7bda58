"""Thumbnails of changed images, read from the revision that has them."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from darkroom.comparison.data_diff import Change
from darkroom.data.images import open_rgb
from darkroom.data.layout import RAW
from darkroom.data.manifest import Row
from darkroom.pictures.style import grid
from darkroom.system import git

SHOWN = 48  # images at most
COLUMNS = 6
MISSING = Image.new("RGB", (64, 64), "lightgrey")


def of_changes(changes: Sequence[Change], old: str | None, new: str | None, path: Path) -> None:
    """Write a sheet of thumbnails with captions to `path`. Images that are no longer in DVC's cache are grey.

    Args:
        changes: The changes. Files that were left out are not shown.
        old, new: The revisions that were compared. None means the work tree.
        path: The PNG file.
    """
    shown = [change for change in changes if change.kind != "left out"][:SHOWN]
    images = [(fetch(change.new, new) if change.new else fetch(change.old, old), caption(change)) for change in shown]
    captioned_sheet(images, path)


def fetch(row: Row | None, revision: str | None) -> Image.Image:
    """An image as it is in `revision`, or in the work tree if that is None. `MISSING` if it cannot be read."""
    assert row is not None
    path = str(RAW / row.path)
    try:
        if revision is None:
            return open_rgb(path)
        return open_rgb(io.BytesIO(_files(revision).read_bytes(git.read("rev-parse", "--show-prefix") + path)))
    except Exception:  # DVC raises many kinds of errors if its cache lacks a file
        return MISSING


@cache
def _files(revision: str) -> Any:
    """The files of a revision, as DVC shows them. Opening it takes a third of a second, so it is opened once."""
    from dvc.api import DVCFileSystem  # slow to import, and needed only here

    return DVCFileSystem(rev=revision, subrepos=True)  # paths start at Git's top folder, not at the project's


def caption(change: Change) -> str:
    """What happened to an image, in two short lines."""
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
    """Write a sheet of (image, caption) pairs to `path`, six per row."""
    rows = max(1, -(-len(shown) // COLUMNS))
    with grid(path, rows, COLUMNS, (10, 1.9 * rows)) as axes:
        for ax in axes.flat:
            ax.axis("off")
        for ax, (image, caption) in zip(axes.flat, shown, strict=False):
            ax.imshow(image)
            ax.set_title(caption, fontsize=7)
