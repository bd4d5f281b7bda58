"""What changed between the data of two revisions, from their manifests: in words and in thumbnails."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from darkroom.data.layout import MANIFEST
from darkroom.system import dvc, git
from darkroom.system.errors import UserError
from darkroom.system.markdown import cell, code

KINDS = ("added", "removed", "relabelled", "moved", "renamed", "left out")
LISTED = 20  # files of each kind that the report names


class Row(NamedTuple):
    """A row of a manifest."""

    path: str
    label: str
    split: str
    sha256: str
    reason: str


class Change(NamedTuple):
    """What became of one image; `old` is None where it is new, `new` where it is gone."""

    kind: str
    old: Row | None
    new: Row | None


def read_manifest(revision: str | None) -> list[Row]:
    """The manifest of a Git revision, or of the work tree for None.

    Raises:
        UserError: There is no such revision, or no manifest in it.
    """
    git.refuse_elsewhere()
    if revision is None:
        if not MANIFEST.exists():
            raise UserError(f"there is no {MANIFEST} in the work tree: run `dvc repro split`")
        text = MANIFEST.read_bytes().decode("utf-8", "surrogateescape")
    else:
        content = git.show(dvc.commit(revision), str(MANIFEST))
        if content is None:
            raise UserError(f"revision '{revision}' has no {MANIFEST}: it is from before the first `dvc repro`")
        text = content.decode("utf-8", "surrogateescape")
    try:
        return [
            Row(row["path"], row["label"], row["split"], row["sha256"], row.get("reason") or "")
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except KeyError as error:
        raise UserError(
            f"{MANIFEST} of {revision or 'the work tree'} is damaged (it has no column {error}): run `dvc repro split` there"
        ) from None


def diff(old: Sequence[Row], new: Sequence[Row]) -> list[Change]:
    """What happened to each image, matched by path and content first, and then by content alone, sorted by path.

    An image whose content changed under the same name is one removed and one added: it is another image.
    """
    before = {(row.path, row.sha256): row for row in old if not row.reason}
    after = {(row.path, row.sha256): row for row in new if not row.reason}
    changes = [_compare(before[key], after[key]) for key in before.keys() & after.keys()]
    gone = _by_content([before[key] for key in before.keys() - after.keys()])
    come = _by_content([after[key] for key in after.keys() - before.keys()])
    for digest in gone.keys() | come.keys():
        olds, news = _paired(gone.get(digest, []), come.get(digest, []))
        common = min(len(olds), len(news))
        changes += [_compare(one, other) for one, other in zip(olds, news, strict=False)]
        changes += [Change("removed", row, None) for row in olds[common:]]
        changes += [Change("added", None, row) for row in news[common:]]
    known = {(row.path, row.reason) for row in old}
    changes += [Change("left out", None, row) for row in new if row.reason and (row.path, row.reason) not in known]
    return sorted((one for one in changes if one.kind), key=lambda one: (KINDS.index(one.kind), current(one).path))


def _compare(old: Row, new: Row) -> Change:
    """The gravest of what happened to an image; "" where nothing did."""
    kind = (
        "relabelled" if old.label != new.label
        else "moved" if old.split != new.split
        else "renamed" if old.path != new.path
        else ""
    )  # fmt: skip
    return Change(kind, old, new)


def _by_content(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of the same bytes together."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.sha256].append(row)
    return groups


def _paired(olds: list[Row], news: list[Row]) -> tuple[list[Row], list[Row]]:
    """Copies of one content, so ordered that those of the same label and side stand at the same place, from the first on."""
    kept = Counter((row.label, row.split) for row in olds) & Counter((row.label, row.split) for row in news)

    def ordered(rows: list[Row]) -> list[Row]:
        left = kept.copy()
        first: list[Row] = []
        rest: list[Row] = []
        for row in sorted(rows, key=lambda row: (row.label, row.split, row.path)):
            own = (row.label, row.split)
            (first if left[own] else rest).append(row)
            left[own] -= bool(left[own])
        return first + rest

    return ordered(olds), ordered(news)


def current(change: Change) -> Row:
    """The image as it is, or, where it is gone, as it was."""
    row = change.new or change.old
    assert row is not None
    return row


def markdown(changes: Sequence[Change], old: str, new: str) -> str:
    """The changes as Markdown: a table of counts by class and split, then the files."""
    if not changes:
        return f"No image differs between {code(old)} and {code(new)}.\n"
    counts = Counter((one.kind, current(one).label, current(one).split) for one in changes if one.kind != "left out")
    lines = [f"### Images: {code(old)} to {code(new)}", ""]
    if counts:
        lines += ["| change | class | split | images |", "|---|---|---|---:|"]
        ranked = sorted(counts.items(), key=lambda item: (KINDS.index(item[0][0]), item[0]))
        lines += [f"| {kind} | {cell(label)} | {split} | {number} |" for (kind, label, split), number in ranked]
    for kind in KINDS:
        own = [one for one in changes if one.kind == kind]
        if own:
            lines += ["", f"**{kind}** ({len(own)})", ""]
            lines += [f"- {_in_words(one)}" for one in own[:LISTED]]
            if len(own) > LISTED:
                lines.append(f"- and {len(own) - LISTED} more")
    return "\n".join(lines) + "\n"


def _in_words(change: Change) -> str:
    """One change in a line."""
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
