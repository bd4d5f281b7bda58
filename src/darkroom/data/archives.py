"""Files in tar archives. The path of such a file is that of the archive and its name in it: `cells.tar/cell0001.png`."""

import os
import tarfile
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

from darkroom.system import files

SUFFIX = ".tar"


class Place(NamedTuple):
    """Where a file lies in its archive, in bytes."""

    offset: int
    size: int


Places = dict[str, Place | None]  # by the file's name; None for a link and whatever else is no regular file


def archive_of(path: str | Path, is_file: Callable[[str], bool] = os.path.isfile) -> tuple[str, str] | None:
    """The archive that holds the file of this path, and the file's name in it; None for a path that leads into no archive."""
    text = str(path)
    end = text.find(f"{SUFFIX}/")
    while end >= 0:
        end += len(SUFFIX)
        if is_file(text[:end]):
            return text[:end], text[end + 1 :]
        end = text.find(f"{SUFFIX}/", end)
    return None


def open_file(path: str | Path) -> IO[bytes]:
    """Open a file, which may lie in an archive.

    Raises:
        OSError: There is no such file, or the archive is damaged.
    """
    inside = archive_of(path)
    if inside is None:
        return Path(path).open("rb")
    archive, name = inside
    place = members(archive).get(name)
    if place is None:
        raise FileNotFoundError(f"{archive} holds no file {name!r}")
    with Path(archive).open("rb") as stream:
        return BytesIO(content(stream, place))


def read(path: str | Path) -> bytes:
    """The bytes of a file, which may lie in an archive. Raises as `open_file`."""
    with open_file(path) as stream:
        return stream.read()


def exists(path: str | Path) -> bool:
    """Whether there is a file, which may lie in an archive."""
    inside = archive_of(path)
    try:
        return Path(path).is_file() if inside is None else bool(members(inside[0]).get(inside[1]))
    except OSError:  # of the archive
        return False


def members(archive: str | Path) -> Places:
    """The files of an archive, in its order.

    Raises:
        OSError: It cannot be read, or is damaged or compressed.
    """
    state = Path(archive).stat()
    return _members(str(archive), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _members(archive: str, changed: int, size: int) -> Places:
    del changed, size  # an archive that has changed is read again
    with Path(archive).open("rb") as stream:
        return places(stream)


def places(stream: IO[bytes]) -> Places:
    """The files of an open archive. The last of two members of a name counts.

    Raises:
        OSError: It is damaged, or compressed.
    """
    found: Places = {}
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            while member := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep what it knows of every member
                if not member.isdir():
                    regular = member.isreg() and not member.issparse()
                    place = Place(member.offset_data, member.size) if regular else None
                    found[member.name.removeprefix("./")] = place
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise OSError(f"is no tar archive, or is damaged: {error}") from None  # of headers that make no sense, too
    if any(content(stream, Place(end, tarfile.BLOCKSIZE))):  # tarfile takes a damaged header for the end
        raise OSError(f"is a tar archive that is damaged at byte {end:,}")
    return found


def content(stream: IO[bytes], place: Place) -> bytes:
    """The bytes of a file in an open archive."""
    stream.seek(place.offset)
    return stream.read(place.size)


def shard_of(path: str) -> str:
    """The archive of a side of the split that holds an image, by the hash of its path: a new image changes one of 256."""
    return f"{files.sha256(path.encode('utf-8', 'surrogateescape'))[:2]}{SUFFIX}"
