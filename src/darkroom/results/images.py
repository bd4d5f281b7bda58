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
from darkroom.system.files import sha256

MISSING = Image.new("RGB", (64, 64), "lightgrey")


def fetch(row: Row | None, revision: str | None) -> Image.Image:
    """An image as it is in `revision`, or in the work tree if that is None. `MISSING` if it cannot be read.

    From archives of an earlier revision, only those images are read that the work tree has, too.
    """
    assert row is not None
    path = str(RAW / row.path)
    try:
        if revision is None:
            return open_rgb(path)
        if archives.archive_of(path):
            data = archives.read(path)
            return open_rgb(io.BytesIO(data)) if sha256(data) == row.sha256 else MISSING
        files, top = files_of(Path.cwd(), revision)
        return open_rgb(io.BytesIO(files.read_bytes(top + path)))
    except Exception:  # DVC raises many kinds of errors if its cache lacks a file
        return MISSING


@cache
def files_of(project: Path, revision: str) -> tuple[Any, str]:
    """The files of a revision of a project, as DVC shows them, and where the project lies in them.

    Their paths start at Git's top folder. Opening them takes a third of a second, so it is done once.
    """
    from dvc.api import DVCFileSystem  # slow to import, and needed only here

    return DVCFileSystem(project, rev=revision, subrepos=True), git.read("rev-parse", "--show-prefix")
