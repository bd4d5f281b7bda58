"""The images of a revision, or of the work tree."""

import io
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from darkroom.data import archives
from darkroom.data.images import open_rgb
from darkroom.data.layout import RAW
from darkroom.data.manifest import Row
from darkroom.system import git

MISSING = Image.new("RGB", (64, 64), "lightgrey")


def fetch(row: Row | None, revision: str | None) -> Image.Image:
    """An image as it is in `revision`, or in the work tree if that is None. `MISSING` if it cannot be read."""
    assert row is not None
    path = str(RAW / row.path)
    try:
        return open_rgb(path if revision is None else io.BytesIO(content(path, revision)))
    except Exception:  # DVC raises many kinds of errors if its cache lacks a file
        return MISSING


def content(path: str, revision: str) -> bytes:
    """A file that DVC tracks in a revision, or a file in an archive that it tracks. DVC raises many kinds of errors."""
    files, top = _files_of(Path.cwd(), revision)
    inside = archives.archive_of(top + path, files.isfile)
    if inside is None:
        found: bytes = files.read_bytes(top + path)
        return found
    archive, name = inside
    place = _places(Path.cwd(), revision, archive)[name]
    assert place is not None
    with files.open(archive) as stream:
        return archives.content(stream, place)


@cache
def _places(project: Path, revision: str, archive: str) -> archives.Places:
    """The files of an archive of a revision."""
    files, _ = _files_of(project, revision)
    with files.open(archive) as stream:
        return archives.places(stream)


@cache
def _files_of(project: Path, revision: str) -> tuple[Any, str]:
    """The files of a revision of a project, as DVC shows them, and where the project lies in them.

    Their paths start at Git's top folder. Opening them takes a third of a second, so it is done once.
    """
    from dvc.api import DVCFileSystem  # slow to import, and needed only here

    return DVCFileSystem(project, rev=revision, subrepos=True), git.read("rev-parse", "--show-prefix")
