"""What happened to the images between two revisions, read from their manifests."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from darkroom.data.layout import TRACKED
from darkroom.data.manifest import NOT_SPLIT, Row
from darkroom.data.tracked import is_split
from darkroom.system import dvc, git, lock
from darkroom.system.errors import UserError
from darkroom.system.markdown import cell, code

KINDS = ("added", "removed", "relabelled", "moved", "renamed", "left out")
LISTED = 20  # files of each kind that the Markdown names


class Change(NamedTuple):
    """What happened to one image. `kind` is one of `KINDS`. `old` is None for a new image, `new` for one that was removed."""

    kind: str
    old: Row | None
    new: Row | None


def diff(old: Sequence[Row], new: Sequence[Row]) -> list[Change]:
    """What happened to each image that changed, sorted by kind and path.

    Images are matched by path and content first, then by content alone. A file whose content changed therefore counts as one
    image removed and one added.
    """
    before = {(row.path, row.sha256): row for row in old if not row.reason}
    after = {(row.path, row.sha256): row for row in new if not row.reason}
    changes = [_changed(before[key], after[key]) for key in before.keys() & after.keys()]
    only_old = _by_content([before[key] for key in before.keys() - after.keys()])
    only_new = _by_content([after[key] for key in after.keys() - before.keys()])
    for digest in only_old.keys() | only_new.keys():
        pairs, removed, added = _pairs(only_old.get(digest, []), only_new.get(digest, []))
        changes += [_changed(one, other) for one, other in pairs]
        changes += [Change("removed", row, None) for row in removed]
        changes += [Change("added", None, row) for row in added]
    known = {(row.path, row.reason) for row in old}
    changes += [Change("left out", None, row) for row in new if row.reason and (row.path, row.reason) not in known]
    return sorted((one for one in changes if one.kind), key=lambda one: (KINDS.index(one.kind), current(one).path))


def refuse_unsplit(revision: str) -> None:
    """Check that the manifest of a Git revision is about the images that its data/raw.dvc tracks.

    Raises:
        UserError: The images were committed without `dvc repro split`.
    """
    commit = dvc.commit(revision)
    tracked, locked = (git.show(commit, str(path)) for path in (TRACKED, lock.LOCK))
    if tracked is None or locked is None:
        return
    if not is_split(tracked.decode(), lock.parse(locked.decode())):
        raise UserError(
            f"the manifest of {revision} is not about its {TRACKED}, which was committed without a run of split: check it out, "
            "and run `dvc repro split` and commit, or compare another revision with the work tree"
        )


def _changed(old: Row, new: Row) -> Change:
    """The most important thing that happened to an image. The kind is "" if nothing happened."""
    kind = (
        "relabelled" if old.label != new.label
        else "moved" if old.split != new.split != NOT_SPLIT
        else "renamed" if old.path != new.path
        else ""
    )  # fmt: skip
    return Change(kind, old, new)


def _by_content(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by SHA-256, so that copies of the same image are together."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.sha256].append(row)
    return groups


def _pairs(olds: Sequence[Row], news: Sequence[Row]) -> tuple[list[tuple[Row, Row]], list[Row], list[Row]]:
    """Pair the copies of one image: those of the same label and split first, of the same label, the same file name, the rest.

    Returns:
        The pairs, the old rows without a partner, and the new rows without one.
    """
    levels: list[Callable[[Row], object]] = [
        lambda row: (row.label, row.split),
        lambda row: row.label,
        lambda row: PurePosixPath(row.path).name,
        lambda _: None,
    ]
    olds, news = (sorted(rows, key=lambda row: (row.label, row.split, row.path)) for rows in (olds, news))
    pairs: list[tuple[Row, Row]] = []
    for key in levels:
        partners = defaultdict(list)
        for row in reversed(news):
            partners[key(row)].append(row)  # so that pop() takes the first
        pairs += [(row, partners[key(row)].pop()) for row in olds if partners[key(row)]]
        paired = {id(row) for pair in pairs for row in pair}
        olds, news = ([row for row in rows if id(row) not in paired] for rows in (olds, news))
    return pairs, list(olds), list(news)


def current(change: Change) -> Row:
    """The new row of the image, or the old one if the image was removed."""
    row = change.new or change.old
    assert row is not None
    return row


def markdown(changes: Sequence[Change], old: str, new: str, listed: int | None = LISTED, note: str = "") -> str:
    """The changes as Markdown: a table of counts by class and split, then the files.

    Args:
        changes: The changes, sorted.
        old, new: What the two revisions are called.
        listed: The number of files of each kind that are named. None: all.
        note: A sentence below the heading.
    """
    if not changes:
        return f"No image differs between {code(old)} and {code(new)}.\n"
    lines = [
        f"### Images: {code(old)} to {code(new)}",
        "",
        *([note, ""] if note else []),
        *counts(changes),
        *files(changes, listed),
    ]
    return "\n".join(lines) + "\n"


def counts(changes: Sequence[Change]) -> list[str]:
    """A table of the numbers of changed images by class and split, as lines of Markdown."""
    found = Counter((one.kind, current(one).label, current(one).split) for one in changes if one.kind != "left out")
    if not found:
        return []
    ranked = sorted(found.items(), key=lambda item: (KINDS.index(item[0][0]), item[0]))
    rows = [f"| {kind} | {cell(label)} | {split} | {number} |" for (kind, label, split), number in ranked]
    return ["| change | class | split | images |", "|---|---|---|---:|", *rows]


def files(changes: Sequence[Change], listed: int | None = LISTED) -> list[str]:
    """The files of each kind of change, as lines of Markdown. At most `listed` of each kind; None: all."""
    lines = []
    for kind in KINDS:
        of_kind = [one for one in changes if one.kind == kind]
        if of_kind:
            lines += ["", f"**{kind}** ({len(of_kind)})", ""]
            lines += [f"- {_in_words(one)}" for one in of_kind[:listed]]
            if listed is not None and len(of_kind) > listed:
                lines.append(f"- and {len(of_kind) - listed} more; `darkroom data-diff --all` lists all")
    return lines


def _in_words(change: Change) -> str:
    """One change as a line of Markdown."""
    row, old = current(change), change.old
    name = code(row.path)
    match change.kind:
        case "relabelled":
            assert old is not None
            return f"{code(old.path)} ({old.split}) to {name} ({row.split}): {code(old.label)} to {code(row.label)}"
        case "moved":
            assert old is not None
            return f"{code(old.path)} ({old.split}) to {name} ({row.split})"
        case "renamed":
            assert old is not None
            return f"{code(old.path)} to {name} ({row.split})"
        case "left out":
            return f"{name} {row.reason}"
        case _:
            return f"{name} ({row.split})"
