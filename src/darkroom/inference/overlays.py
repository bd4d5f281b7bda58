"""Pictures of where in an image the reason for a prediction lies."""

import hashlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image

from darkroom.inference.predict import Witness
from darkroom.inference.predictor import Explain
from darkroom.system import files
from darkroom.system.errors import UserError

COLOURS = "inferno"  # from dark to bright in even steps, for any kind of colour vision and in print
OPACITY = 0.65  # of the colour where the reason is strongest; where there is none, the image is as it was
SIDE = 256  # pixels; smaller images are enlarged to it
SHOWN = 60  # characters of a file's name that the name of its picture has


def writer(explain: Explain, folder: Path) -> Witness:
    """A function that writes a picture for each of N paths into `folder`, from their pixels and their classes.

    Raises:
        UserError: The folder cannot be made, or a picture cannot be written.
    """

    def refuse(error: OSError) -> UserError:
        return UserError(f"--explain {folder}: cannot be written ({error.strerror}): name another folder")

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refuse(error) from None

    def write(paths: Sequence[str], pixels: np.ndarray, classes: np.ndarray) -> None:
        for path, image, heat in zip(paths, pixels, explain(pixels, classes), strict=True):
            try:
                files.write_bytes(folder / name_of(path), overlay(image, heat))
            except OSError as error:
                raise refuse(error) from None

    return write


def name_of(path: str) -> str:
    """The name of the picture of the file at `path`: letters of the file's own name, and a digest of the whole path.

    So each path has another picture, and none leaves the folder, whatever the file is called.
    """
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    letters = re.sub(r"[^\w.-]+", "_", Path(path).stem, flags=re.ASCII).strip("._-")[:SHOWN]
    return f"{letters}-{digest}.png" if letters else f"{digest}.png"


def overlay(image: np.ndarray, heat: np.ndarray) -> bytes:
    """The image in grey with the heat in colour over it, as a PNG file.

    Args:
        image: uint8 (R, R, 3).
        heat: float (R, R), 0 to 1.
    """
    side = max(SIDE, len(image))
    grey = np.asarray(Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.BICUBIC))
    wide = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
    colour = colormaps[COLOURS](wide)[..., :3] * 255
    opacity = OPACITY * wide.clip(0, 1)[..., None]
    mixed = (1 - opacity) * grey[..., None] + opacity * colour
    stream = io.BytesIO()
    Image.fromarray(mixed.round().astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
