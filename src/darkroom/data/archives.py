"""Images in tar archives. The path of such an image is that of the archive and its name in it: `cells.tar/cell0001.png`."""

import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

from darkroom.system import files
from darkroom.system.errors import UserError

SUFFIX = ".tar"
CLASS = ".cls"  # WebDataset's suffix of the file that holds the class of an image


class Place(NamedTuple):
    """Where a file lies in its archive, in bytes."""

    offset: int
    size: int


def archive_of(path: str | Path) -> tuple[Path, str] | None:
    """The archive that holds the file of this path, and the file's name in it; None for a path that leads into no archive."""
    text = str(path)
    end = text.find(f"{SUFFIX}/")
    while end >= 0:
        end += len(SUFFIX)
        if (archive := Path(text[:end])).is_file():
            return archive, text[end + 1 :]
        end = text.find(f"{SUFFIX}/", end)
    return None


def open_file(path: str | Path) -> IO[bytes]:
    """Open a file, which may lie in an archive.

    Raises:
        OSError: There is no such file.
    """
    inside = archive_of(path)
    if inside is None:
        return Path(path).open("rb")
    place = _of(inside[0]).get(inside[1])
    if place is None:
        raise FileNotFoundError(f"{inside[0]} holds no file {inside[1]!r}")
    with inside[0].open("rb") as stream:
        stream.seek(place.offset)
        return BytesIO(stream.read(place.size))


def read(path: str | Path) -> bytes:
    """The bytes of a file, which may lie in an archive.

    Raises:
        OSError: There is no such file.
    """
    with open_file(path) as stream:
        return stream.read()


def exists(path: str | Path) -> bool:
    """Whether there is a file, which may lie in an archive."""
    inside = archive_of(path)
    return Path(path).is_file() if inside is None else bool(_of(inside[0]).get(inside[1]))


def names(archive: Path) -> list[str]:
    """The names of the images in an archive, in its order, with links and other odd members.

    The other files of a sample in WebDataset's convention (`cell1.cls`, `cell1.json` beside `cell1.png`) are left out.

    Raises:
        tarfile.TarError, OSError: It is damaged, or compressed.
    """
    every = _of(archive)
    with_class = {_key(name) for name in every if name.endswith(CLASS)}
    fields = (CLASS, ".json", ".txt")
    return [
        name for name in every if not (name.endswith(fields) and (_key(name) in with_class or _has_image(name, every)))
    ]


def label_of(raw: Path, path: str, above: int) -> str:
    """The class of an image of the data set `raw`.

    It is the folder below `above` folders. If an archive lies there, it is what the archive says: the content of the file of the
    same name in `.cls`, else the image's folder in the archive, else the archive's name.

    Raises:
        UserError: The `.cls` of an image is no name of a class.
    """
    parts = path.split("/")
    first, rest = parts[above], parts[above + 1 :]
    archive = raw / "/".join(parts[: above + 1])
    if not first.endswith(SUFFIX) or not archive.is_file():
        return first
    side_file = archive / f"{_key('/'.join(rest))}{CLASS}"
    if not exists(side_file):
        return rest[0] if len(rest) > 1 else first.removesuffix(SUFFIX)
    label = read(side_file).decode("utf-8", "replace").strip()
    if not label or label.startswith(".") or {"/", "\\", "\0", "\ufffd"} & set(label):
        raise UserError(f"{str(side_file)!r} holds no name of a class: mend the archive, or move it away")
    return label


def shard_of(path: str) -> str:
    """The archive of a side of the split that holds an image, by the hash of its path: a new image changes one of 256."""
    return f"{files.sha256(path.encode('utf-8', 'surrogateescape'))[:2]}{SUFFIX}"


def write(archive: Path, members: Iterable[tuple[str, Path]]) -> None:
    """Write files, each under its new name, to an archive. The same names and contents give the same bytes."""
    with tarfile.open(archive, "w:", format=tarfile.PAX_FORMAT) as stream:
        for name, source in members:
            data = read(source)
            header = tarfile.TarInfo(name)  # its time, owner and rights are always the same
            header.size = len(data)
            stream.addfile(header, BytesIO(data))


def _of(archive: Path) -> dict[str, Place | None]:
    state = archive.stat()
    return _index(archive, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _index(archive: Path, changed: int, size: int) -> dict[str, Place | None]:
    """The files of an archive; None for a link and whatever else is no regular file. The last of two members of a name counts."""
    del changed, size  # an archive that has changed is read again
    with tarfile.open(archive, "r:") as stream:
        return dict(_places(stream))


def _places(stream: tarfile.TarFile) -> Iterator[tuple[str, Place | None]]:
    while member := stream.next():
        stream.members.clear()  # type: ignore[attr-defined]  # tarfile would keep what it knows of every member
        if not member.isdir():
            regular = member.isreg() and not member.issparse()
            yield member.name.removeprefix("./"), Place(member.offset_data, member.size) if regular else None


def _key(name: str) -> str:
    """What the files of one sample have in common: all up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.split(".", 1)[0]


def _has_image(name: str, every: dict[str, Place | None]) -> bool:
    key = _key(name)
    return any(f"{key}{suffix}" in every for suffix in (".jpg", ".jpeg", ".png", ".webp"))
