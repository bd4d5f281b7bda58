"""A sheet of thumbnails of changed images."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from darkroom.comparison.data_diff import Change
from darkroom.data.manifest import Row
from darkroom.pictures.style import grid
from darkroom.results.images import fetch

SHOWN = 48  # images at most
COLUMNS = 6
NAME = 32  # characters of a path that fit above an image


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
    shown = choose(images, SHOWN)
    tiles = [(fetch(change.new, new) if change.new else fetch(change.old, old), caption(change)) for change in shown]
    missing = len(images) - len(shown)
    note = f"{len(shown)} of {len(images)} changed images" + (f"; {missing} are not shown" if missing else "")
    captioned_sheet(tiles, path, note)
    return note


def choose(changes: Sequence[Change], most: int) -> list[Change]:
    """At most `most` of the changes, in their order, and of every kind among them.

    Each kind gets the same number, and what a small kind leaves over goes to the larger ones. Within a kind the chosen ones are
    evenly spaced, so that they are not all of the first class.
    """
    kinds: dict[str, list[Change]] = {}
    for change in changes:
        kinds.setdefault(change.kind, []).append(change)
    chosen: dict[str, list[Change]] = {}
    left = most
    for number, kind in enumerate(sorted(kinds, key=lambda kind: len(kinds[kind]))):
        of_kind = kinds[kind]
        take = min(len(of_kind), left // (len(kinds) - number))
        chosen[kind] = [of_kind[index * len(of_kind) // take] for index in range(take)]
        left -= take
    return [change for kind in kinds for change in chosen[kind]]


def caption(change: Change) -> str:
    """What happened to an image, and its path: two lines, or three if the path changed."""
    old, new = change.old, change.new
    match change.kind, old, new:
        case "relabelled", Row(), Row():
            return "\n".join(("relabelled", f"from {shortened(old.path)}", f"to {shortened(new.path)}"))
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
