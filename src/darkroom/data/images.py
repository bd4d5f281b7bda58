"""Files to pixels: any image file to 8-bit RGB, any folder of class folders to one array."""

import math
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from darkroom.data import archives
from darkroom.system import role
from darkroom.system.errors import UserError
from darkroom.system.parallel import in_threads

SPILL = Path(".darkroom")  # in the project, since the system's folder for temporary files may be in memory
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels

# Pillow's name of each format that is read -> its suffixes: those that torchvision's ImageFolder takes, and GIF. Pillow's other
# decoders stay closed: that of EPS starts another program, that of ICO decodes before the size is known.
FORMATS = {
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "PPM": (".pgm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
# A file's content need not be what its suffix says, as long as it is one of these formats.
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

Image.MAX_IMAGE_PIXELS = None  # split.max_megapixels is the limit


@dataclass(frozen=True)
class Folder:
    """The images of one side of the split, in the order of their paths.

    Attributes:
        pixels: uint8 (N, resolution, resolution, 3), RGB, 0 to 255.
        labels: int64 (N,), indices into `classes`.
        paths: N POSIX paths relative to the folder, `class/.../name`.
        classes: The class names, sorted.
        file: What holds the pixels, so that other processes can map them; it has no name, and closes with the last of them.
    """

    pixels: np.ndarray
    labels: np.ndarray
    paths: list[str]
    classes: list[str]
    file: IO[bytes] | None = None


def open_image(path: str | Path | IO[bytes]) -> Image.Image:
    """Open an image file of one of `FORMATS`, whatever its suffix. Nothing is decoded yet, but its size is known.

    Raises:
        OSError: It has another format.
    """
    if isinstance(path, (str, Path)) and archives.archive_of(path):
        path = archives.open_file(path)
    return Image.open(path, formats=list(FORMATS))


def open_rgb(path: str | Path | IO[bytes]) -> Image.Image:
    """Decode an image file (or the bytes of one) to 8-bit RGB, upright.

    Of an animation the first frame is taken. The EXIF orientation is applied, 16-bit grey is scaled to 8 bits, and
    transparency is flattened on white.

    Raises:
        OSError, SyntaxError, ValueError: Pillow cannot decode the file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata; real failures raise
        with open_image(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode == "F":
                raise ValueError("floating-point pixels have no stated range")
            if image.mode.startswith("I"):
                return _grey_from_16_bits(image).convert("RGB")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
            return image.convert("RGB")


def _grey_from_16_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, which Pillow may hold in 32 bits, scaled to 8-bit grey. Pillow's convert() would clip it."""
    return Image.fromarray((np.asarray(image).clip(0, 65535).astype(np.uint32) // 257).astype(np.uint8))


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """`image`, whose longer side now has at most `side` pixels: many photos at full size would fill the memory."""
    image.thumbnail((side, side))
    return image


def resized(image: Image.Image, resolution: int) -> np.ndarray:
    """`image` as uint8 (resolution, resolution, 3): the whole image, squeezed to a square.

    Pillow's bilinear filter widens its support when it shrinks an image (antialiasing). It computes in integers, so that
    every CPU gives the same pixels.
    """
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.BILINEAR))


def list_images(folder: str | Path) -> list[str]:
    """POSIX paths, `class/.../name` and sorted, of the images of a side of the split; hidden files are left out.

    The stage split has put nothing but images there. Which files it takes for images is decided in survey.py.
    """
    folder = Path(folder)
    files = (path for path in folder.glob("*/**/*") if not path.name.startswith(".") and path.is_file())
    found = [path.relative_to(folder).as_posix() for path in files]
    for archive in folder.glob(f"*{archives.SUFFIX}"):
        if archive.is_file():
            found += archives.members(archive)
    return sorted(found)


def file_in(folder: str | Path, path: str) -> Path:
    """Where an image of a side of the split lies: in a class folder, or in an archive (`split.layout`)."""
    plain = Path(folder, path)
    return plain if plain.exists() else Path(folder, archives.shard_of(path), path)


def load_folder(
    folder: str | Path,
    resolution: int,
    memory: int,
    classes: list[str] | None = None,
    paths: list[str] | None = None,
) -> Folder:
    """Decode the images of `folder`, which is laid out as `class/.../name`.

    Args:
        folder: One side of the split.
        resolution: The side of the squares, in pixels.
        memory: The MiB of pixels that may be held in memory; if there are more, they are kept in a file.
        classes: The class names, sorted, among which are those of the folder; None: those of the folder.
        paths: The images to decode; None: all.

    Raises:
        UserError: The folder holds no image, an image that cannot be decoded, or other classes; or the disk has no room for
            what does not fit into memory.
    """
    folder = Path(folder)
    every = list_images(folder)
    paths = every if paths is None else paths
    if not every:
        raise UserError(f"{folder} holds no images: run `dvc repro split` first")

    names = [path.split("/", 1)[0] for path in paths]
    found = sorted({path.split("/", 1)[0] for path in every})
    classes = found if classes is None else classes
    if unknown := sorted(set(found) - set(classes)):
        raise UserError(
            f"{folder} has the class {unknown[0]!r}, which is none of {classes}: run `dvc repro` to build all of it anew"
        )
    labels = np.searchsorted(classes, names).astype(np.int64)
    shape = len(paths), resolution, resolution, 3
    here = role.of_this_process()
    if here and folder.name in here.pixels:
        file: IO[bytes] = os.fdopen(here.pixels[folder.name], "r+b")
        return Folder(np.memmap(file, np.uint8, "r+", shape=shape), labels, paths, classes, file)
    file = _room_for(math.prod(shape), memory)
    pixels = np.memmap(file, np.uint8, "w+", shape=shape)
    _decode(folder, paths, pixels)
    return Folder(pixels, labels, paths, classes, file)


def _decode(folder: Path, paths: list[str], pixels: np.ndarray) -> None:
    """Decode the images into `pixels`, uint8 (N, resolution, resolution, 3).

    Raises:
        UserError: An image cannot be decoded.
    """

    def decode(index: int) -> None:
        try:
            pixels[index] = resized(open_rgb(file_in(folder, paths[index])), pixels.shape[1])
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(
                f"{folder / paths[index]} cannot be decoded ({error}): run `dvc repro split` again"
            ) from None

    for _ in in_threads(decode, range(len(paths))):
        pass


def _room_for(size: int, memory: int) -> IO[bytes]:
    """An empty file without a name for `size` bytes: in memory if they are at most `memory` MiB, else on the disk.

    Its room on the disk is taken at once: a disk that fills up later would kill the process without a message.

    Raises:
        UserError: There is no room on the disk.
    """
    if size <= memory * 2**20 and hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("pixels"), "w+b")
    SPILL.mkdir(exist_ok=True)
    file = tempfile.TemporaryFile(dir=SPILL)  # noqa: SIM115  (the caller closes it)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise UserError(
                f"{SPILL.absolute()} has no room for {size / 2**20:,.0f} MiB of pixels ({error.strerror}): make room there, or "
                "raise images.memory in params.yaml"
            ) from None
    return file
