"""The survey of data/raw: which files are images that can be used, and why the others cannot."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from darkroom.data import archives, samples
from darkroom.data.images import FORMATS, SUFFIXES, open_image, open_rgb
from darkroom.data.layout import is_system_file
from darkroom.system import dvc, files
from darkroom.system.errors import UserError
from darkroom.system.parallel import on_every_core

COMPRESSED = frozenset({".7z", ".bz2", ".gz", ".rar", ".tgz", ".xz", ".zip", ".zst"})
LONGEST = 255  # bytes of the name of a file or folder
HASH_SIDE = 16  # a perceptual hash has HASH_SIDE x HASH_SIDE bits


class Found(NamedTuple):
    """A file of data/raw that is not a system file. `reason` says why it cannot be used; it is "" if it can."""

    path: str  # POSIX, relative to data/raw
    sha256: str  # "" if the file was not read
    phash: bytes  # b"" if it was not decoded
    reason: str


@dataclass(frozen=True)
class Content:
    """What the bytes of a file say, whatever its name is."""

    phash: bytes
    reason: str


def survey(raw: Path, max_megapixels: float, depth: int = 1) -> list[Found]:
    """Every file of `raw` except hidden and system files, sorted by path. Each content is decoded once, on every core.

    Links are followed if they lead to a file in `raw` or in DVC's cache.

    Args:
        raw: The data set.
        max_megapixels: Larger images are not decoded.
        depth: The number of folders above an image: 1 in class/name, 2 in side/class/name.
    """
    paths = sorted(walk(raw))
    reasons = {path: refused_by_name(raw, path, depth) for path in paths}
    usable = [path for path in paths if not reasons[path]]
    hashes = dict(zip(usable, on_every_core(partial(sha256, raw), usable), strict=True))
    one_of_each = {digest: path for path, digest in reversed(hashes.items())}
    examined = examine_all(raw, max_megapixels, list(one_of_each.values()))
    bar = tqdm(examined, "looking at images", len(one_of_each), unit="image", leave=False, disable=None)
    contents = dict(zip(one_of_each, bar, strict=True))

    def found(path: str) -> Found:
        digest = hashes.get(path, "")
        content = contents.get(digest, Content(b"", reasons[path]))
        return Found(path, digest, content.phash, content.reason)

    return [found(path) for path in paths]


def walk(raw: Path) -> Iterator[str]:
    """The paths of all files in `raw` and in its archives, and of links to folders, which are not followed.

    Raises:
        OSError: A folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(raw, onerror=refuse):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = [name for name in folders if not is_system_file(name) and name not in links]
        for name in [*names, *links]:
            if not is_system_file(name):
                path = (Path(folder) / name).relative_to(raw).as_posix()
                yield from _in_archive(raw, path) if name.endswith(archives.SUFFIX) else [path]


def _in_archive(raw: Path, path: str) -> list[str]:
    """The paths of the files in an archive, or its own path if it cannot be used."""
    if _refused_file(raw, path):
        return [path]
    try:
        return [f"{path}/{name}" for name in samples.names(raw / path)]
    except PermissionError:  # as of any file that this user may not read
        raise
    except OSError:
        return [path]


def refused_by_name(raw: Path, path: str, depth: int) -> str:
    """Why a file cannot be used, as far as its name and type say; "" if they say nothing against it."""
    if written(path) != path or not _is_utf8(path):
        return "has a name that is not UTF-8, or that holds a carriage return or a less-than sign"
    inside = archives.archive_of(f"{raw}/{path}")
    if reason := _refused_member(raw, path, inside[1]) if inside else _refused_file(raw, path):
        return reason
    suffix = Path(path).suffix.lower()
    if suffix in COMPRESSED:
        return "is a compressed archive: unpack it, or store it as .tar"
    if suffix == archives.SUFFIX:
        return "is no tar archive, is damaged, or has a name that does not end in .tar"
    if path.count("/") < depth:
        return "lies in no class folder"
    return "" if suffix in SUFFIXES else "is not named as an image"


def _refused_file(raw: Path, path: str) -> str:
    """What a file's type, and where it leads as a link, say against it."""
    try:
        target = (raw / path).resolve()
    except (OSError, RuntimeError):  # a loop
        return "is a link to nothing"
    if not target.exists():
        return "is a link to nothing"
    if target.is_dir():
        return "is a link to a folder"
    if not (target.is_relative_to(raw.resolve()) or is_in_cache(target)):
        return "is a link out of the data set"
    return "" if target.is_file() else "is not a regular file"


def _refused_member(raw: Path, path: str, name: str) -> str:
    """What the name and the type of a file in an archive say against it."""
    parts = name.split("/")
    if {"", ".", ".."} & set(parts):
        return "has a name that leads out of its archive"
    if "\0" in name or max(len(part.encode()) for part in parts) > LONGEST:
        return "has a name that no file can have"
    return "" if archives.exists(raw / path) else "is not a regular file"


def written(text: str) -> str:
    """`text` as the manifest has it. A carriage return would end its line; `</script>` would end a script of `dvc plots show`."""
    return text.replace("\r", "\\r").replace("<", "\\x3c")


def is_in_cache(target: Path) -> bool:
    """Whether a file lies in DVC's cache, to which links lead if DVC is set to link instead of copy."""
    folder = _cache(Path.cwd())
    return folder is not None and target.is_relative_to(folder)


@cache
def _cache(project: Path) -> Path | None:
    """The folder of DVC's cache; None if `project` is in no DVC project. DVC takes half a second to say it."""
    try:
        return dvc.cache(project).resolve()
    except UserError:
        return None


def _is_utf8(path: str) -> bool:
    """Whether a name is valid UTF-8. Python holds other bytes of a name as lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def examine_all(raw: Path, max_megapixels: float, names: Sequence[str]) -> Iterator[Content]:
    """`examine` for each of the files `names` of `raw`, in order. One that kills its process is a file that cannot be used."""
    return on_every_core(partial(examine, raw, max_megapixels), names, lambda _: Content(b"", "kills its decoder"))


def examine(raw: Path, max_megapixels: float, name: str) -> Content:
    """What the bytes of the file `name` of `raw` say, if it is not larger than allowed."""
    image = decoded(raw / name, max_megapixels)
    return Content(b"", image) if isinstance(image, str) else Content(perceptual_hash(image), "")


def decoded(path: Path, max_megapixels: float) -> Image.Image | str:
    """The whole image of a file, as `images.open_rgb` gives it, or why it cannot be used.

    Raises:
        OSError: There is no such file, or this user may not read it.
    """
    try:
        with archives.open_file(path) as stream:
            if stream.seek(0, os.SEEK_END) == 0:
                return "is empty"
            stream.seek(0)
            with open_image(stream) as image:
                megapixels = image.width * image.height / 1e6
            if megapixels > max_megapixels:
                return f"has {megapixels:.0f} megapixels, and the limit is {max_megapixels:g}"
            stream.seek(0)
            return open_rgb(stream)
    except UnidentifiedImageError:
        return f"is not an image that can be read ({', '.join(FORMATS)})"
    except PermissionError:
        raise
    except Exception as error:  # on damaged bytes Pillow's decoders fail in many ways
        reason = " ".join(str(error).split()).replace(str(path), path.name)
        return written(f"cannot be decoded: {reason}")


def perceptual_hash(image: Image.Image) -> bytes:
    """Difference hash (Krawetz 2013): whether each pixel of a small grey copy is darker than its right neighbour."""
    small = np.asarray(image.convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()


def sha256(raw: Path, name: str) -> str:
    """SHA-256 of the file `name` of `raw`, as 64 hexadecimal digits."""
    return files.sha256(archives.read(raw / name))
