"""The images of a user's archive, and their classes: an archive is a folder, or a shard in WebDataset's convention."""

from functools import lru_cache
from pathlib import Path, PurePosixPath

from darkroom.data import archives
from darkroom.data.archives import SUFFIX
from darkroom.data.images import SUFFIXES
from darkroom.data.layout import is_system_file
from darkroom.system.errors import UserError

CLASS = ".cls"  # WebDataset's suffix of the file that holds the class of an image
OTHERS = (CLASS, ".json", ".txt")  # files of a sample that are not its image


def names(archive: str | Path) -> list[str]:
    """The names of the images in an archive, in its order, with links and whatever else may be meant as an image.

    Hidden and system files are left out, and the other files of a sample: `cell1.cls` and `cell1.json` beside `cell1.png`.

    Raises:
        OSError: The archive is damaged, compressed, or cannot be read.
    """
    every = archives.members(archive)
    samples = {key(name) for name in every if PurePosixPath(name).suffix.lower() in SUFFIXES}
    return [
        name
        for name in every
        if not (name.endswith(OTHERS) and key(name) in samples)
        and not any(part != ".." and is_system_file(part) for part in name.split("/"))
    ]


def label_of(raw: Path, path: str, above: int) -> str:
    """The class of an image of the data set `raw`.

    It is the folder below `above` folders. If an archive lies there, it is what the archive says: the content of the file of the
    same name in `.cls`, else the image's folder in the archive, else the archive's name.

    Raises:
        UserError: The `.cls` of an image is no name of a class, or only other images of the archive have one.
    """
    parts = path.split("/")
    first, name = parts[above], "/".join(parts[above + 1 :])
    archive = raw / "/".join(parts[: above + 1])
    if not first.endswith(SUFFIX) or not archive.is_file():
        return first
    if not _has_classes(str(archive), archive.stat().st_mtime_ns):
        folder = name.split("/", 1)[0]
        return first.removesuffix(SUFFIX) if folder == name else folder
    side_file = archive / f"{key(name)}{CLASS}"
    if not archives.exists(side_file):
        raise UserError(
            f"{str(side_file)!r} is missing or a link, so that an image has no class: mend the archive, or move it away"
        )
    label = archives.read(side_file).decode("utf-8", "replace").strip()
    if not label or label.startswith(".") or {"/", "\\", "\0", "\ufffd"} & set(label):
        raise UserError(f"{str(side_file)!r} holds no name of a class: mend the archive, or move it away")
    return label


@lru_cache(maxsize=4096)
def _has_classes(archive: str, changed: int) -> bool:
    del changed  # an archive that has changed is read again
    return any(name.endswith(CLASS) for name in archives.members(archive))


def key(name: str) -> str:
    """What the files of one sample have in common: all up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.split(".", 1)[0]
