"""Moving files, so that no file is overwritten and a move that was interrupted can be done again."""

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from darkroom.system import files
from darkroom.system.errors import UserError


def holds(path: Path, sha256: str) -> bool:
    """Whether there is a file with this content."""
    try:
        return files.sha256(path.read_bytes()) == sha256
    except OSError:
        return False


def is_moved(source: Path, target: Path, sha256: str) -> bool:
    """Whether a file was moved already.

    Raises:
        UserError: It lies at neither place, was changed, or its new place is taken.
    """
    if not os.path.lexists(source) and holds(target, sha256):
        return True
    if not holds(source, sha256):
        raise UserError(f"{str(source)!r} has changed or is gone: put back the file that was there, and try again")
    if os.path.lexists(target) and not _is_halfway(source, target):
        raise UserError(f"{str(target)!r} is there already: move it away, and try again")
    return False


def _is_halfway(source: Path, target: Path) -> bool:
    """Whether a move that copies was killed before it removed the source. Only links, and files of .darkroom, are copied."""
    if source.is_symlink() and target.is_symlink():
        return source.resolve() == target.resolve()
    return any(path.parts[0] == ".darkroom" for path in (source, target)) and source.read_bytes() == target.read_bytes()


def move(source: Path, target: Path) -> None:
    """Move a file or a link, as it is: what a link leads to is not touched."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        source.unlink()  # a move that was killed
        return
    if source.is_symlink() and not (leads_to := source.readlink()).is_absolute():
        target.symlink_to(os.path.relpath(source.parent.resolve() / leads_to, target.parent.resolve()))
        source.unlink()
        return
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # .darkroom and data/raw may be on two disks
            raise
        partial = target.with_name(f".{target.name}.partial")
        partial.unlink(missing_ok=True)  # of a move that was killed; a link is not copied over another one
        shutil.copy2(source, partial, follow_symlinks=False)
        partial.rename(target)
        source.unlink()


def missing_folders(targets: Iterable[Path]) -> list[Path]:
    """The folders that must be made for files to lie there, outermost first."""
    folders = {folder for target in targets for folder in target.parents}
    return sorted(folder for folder in folders if not folder.exists())


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are empty, the innermost first."""
    for folder in sorted(folders, reverse=True):
        with suppress(OSError):
            folder.rmdir()
