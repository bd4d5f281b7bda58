"""Sheets of thumbnails: of changed images, and of images that changed between right and wrong."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from darkroom.comparison.compare import Flip
from darkroom.comparison.data_diff import Change
from darkroom.data.manifest import Row
from darkroom.pictures.style import grid
from darkroom.results.images import MISSING, fetch

SHOWN = 48  # images at most
COLUMNS = 6
FLIPS = 24  # images at most
NAME = 32  # characters of a path that fit above an image
RIGHT, WRONG = "#0072b2", "#b34700"

T = TypeVar("T")
Tile = tuple[Image.Image, str]  # with its caption


def of_changes(changes: Sequence[Change], old: str | None, new: str | None, path: Path) -> str:
    """Write a sheet of thumbnails with captions to `path`. Images that are no longer in DVC's cache are grey.

    Args:
        changes: The changes, sorted by kind. Files that were left out are not shown.
        old, new: The revisions that were compared. None means the work tree.
        path: The PNG file.

    Returns:
        A sentence that says how many images are shown, and how many are not.
    """
    images = [change for change in changes if change.kind != "left out"]
    note, tiles = _of_changes(images, old, new)
    captioned_sheet(tiles, path, note)
    return note


def of_changes_if_any(changes: Sequence[Change], old: str | None, new: str | None, path: Path) -> str:
    """As `of_changes`, but write nothing and return "" if this machine has none of the images."""
    note, tiles = _of_changes(changes, old, new)
    if all(image is MISSING for image, _ in tiles):
        return ""
    captioned_sheet(tiles, path, note)
    return note


def _of_changes(changes: Sequence[Change], old: str | None, new: str | None) -> tuple[str, list[Tile]]:
    """A sentence on how many of the changes are shown, and the tiles of these."""
    shown = choose(changes, SHOWN, lambda change: change.kind)
    missing = len(changes) - len(shown)
    note = f"{len(shown)} of {len(changes)} changed images" + (f"; {missing} are not shown" if missing else "")
    tiles = [(fetch(change.new, new) if change.new else fetch(change.old, old), caption(change)) for change in shown]
    return note + _absent([image for image, _ in tiles]), tiles


def _absent(images: Sequence[Image.Image]) -> str:
    """How many of the images are grey because this machine does not have them, as the end of a sentence."""
    count = sum(image is MISSING for image in images)
    return f"; {count} are grey, because this machine does not have them" if count else ""


def of_flips(flips: Sequence[Flip], rows: Mapping[str, Row], revision: str | None, path: Path) -> str:
    """Write a sheet of the images about which a model changed between right and wrong: those that are now wrong first.

    Args:
        flips: Those of one model.
        rows: The path of a test image, `class/.../name` -> its row in the manifest.
        revision: Where the images are. None means the work tree.
        path: The PNG file. Nothing is written if this machine has none of the images.

    Returns:
        A sentence that says how many images are shown. "" if nothing was written.
    """
    shown = choose(flips, FLIPS, lambda flip: str(flip.head == flip.actual))
    images = [fetch(rows[flip.path], revision) for flip in shown]
    if all(image is MISSING for image in images):
        return ""
    note = f"{len(shown)} of {len(flips)} images that changed between right and wrong{_absent(images)}"
    lines = -(-len(shown) // COLUMNS)
    with grid(path, lines, COLUMNS, (10, 2.5 * lines + 0.3)) as axes:
        axes.flat[0].figure.suptitle(note, fontsize=9)
        for ax in axes.flat[len(shown) :]:
            ax.axis("off")
        for ax, flip, image in zip(axes.flat, shown, images, strict=False):
            right = flip.head == flip.actual
            ax.imshow(image)
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.set_title(
                f"{'now right' if right else 'now wrong'}\nactual: {shortened(flip.actual)}",
                fontsize=7,
                color=RIGHT if right else WRONG,
            )
            ax.set_xlabel(
                f"before: {shortened(flip.base)}\nnow: {shortened(flip.head)}\n{shortened(flip.path)}", fontsize=6
            )
            for spine in ax.spines.values():
                spine.set(visible=True, color=RIGHT if right else WRONG, linewidth=2)
    return note


def choose(items: Sequence[T], most: int, kind: Callable[[T], str]) -> list[T]:
    """At most `most` of the items, in the order of their kinds, and of every kind among them.

    Each kind gets the same number, and what a small kind leaves over goes to the larger ones. Within a kind the chosen ones are
    evenly spaced, so that they are not all of the first class.
    """
    kinds: dict[str, list[T]] = {}
    for item in items:
        kinds.setdefault(kind(item), []).append(item)
    chosen: dict[str, list[T]] = {}
    left = most
    for number, name in enumerate(sorted(kinds, key=lambda name: len(kinds[name]))):
        of_kind = kinds[name]
        take = min(len(of_kind), left // (len(kinds) - number))
        chosen[name] = [of_kind[index * len(of_kind) // take] for index in range(take)]
        left -= take
    return [item for name in kinds for item in chosen[name]]


def caption(change: Change) -> str:
    """What happened to an image, and its path: two lines, or three if the path changed."""
    old, new = change.old, change.new
    match change.kind, old, new:
        case "relabelled", Row(), Row():
            return "\n".join((f"relabelled ({new.split})", f"from {shortened(old.path)}", f"to {shortened(new.path)}"))
        case "moved", Row(), Row():
            return f"moved: {old.split} to {new.split}\n{shortened(new.path)}"
        case "renamed", Row(), Row():
            return "\n".join((f"renamed ({new.split})", f"from {shortened(old.path)}", f"to {shortened(new.path)}"))
        case _:
            row = new or old
            assert row is not None
            return f"{change.kind} ({row.split})\n{shortened(row.path)}"


def shortened(text: str, most: int = NAME) -> str:
    """`text` on one line, with "..." for its middle if it is longer than `most` characters."""
    shown = text if text.isprintable() else ascii(text)
    if len(shown) <= most:
        return shown
    end = (most - 2) // 2
    return f"{shown[: most - 3 - end]}...{shown[-end:]}"


def captioned_sheet(shown: Sequence[tuple[Image.Image, str]], path: Path, note: str) -> None:
    """Write a sheet of (image, caption) pairs to `path`, six per row, with a `note` above."""
    rows = max(1, -(-len(shown) // COLUMNS))
    with grid(path, rows, COLUMNS, (10, 2 * rows + 0.3)) as axes:
        for ax in axes.flat:
            ax.axis("off")
        axes.flat[0].figure.suptitle(note, fontsize=9)
        for ax, (image, caption) in zip(axes.flat, shown, strict=False):
            ax.imshow(image)
            ax.set_title(caption, fontsize=6)
