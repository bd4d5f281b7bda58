"""data/manifest.csv: the class and side of each file of data/raw, or why it was left out."""

import csv
import io
from typing import NamedTuple

from darkroom.data.layout import MANIFEST, in_side
from darkroom.system import dvc, git
from darkroom.system.errors import UserError

NOT_SPLIT = "not split yet"  # the side of an image that data/raw has and the manifest does not


class Row(NamedTuple):
    """A file of data/raw. `reason` says why it cannot be used; it is "" for an image that was split.

    The side `split` is `NOT_SPLIT` only in rows that were read from data/raw itself. `filler` is "pinned", "not pinned" for an
    image that is not where its hash says, or "".
    """

    path: str
    label: str
    split: str
    sha256: str
    reason: str
    group: str = ""
    filler: str = ""


def read(revision: str | None) -> list[Row]:
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
            Row(
                *(row[column] for column in ("path", "label", "split", "sha256")),
                *(row.get(column) or "" for column in ("reason", "group", "filler")),
            )
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except KeyError as error:
        raise UserError(
            f"{MANIFEST} of {revision or 'the work tree'} is damaged (it has no column {error}): run `dvc repro split` there"
        ) from None


def path_in_side(row: Row) -> str:
    """The path of an image in its side of the split: `class/.../name`."""
    return in_side(row.path, row.label)
