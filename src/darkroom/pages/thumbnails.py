"""Thumbnails of many images."""

import base64
import io
from collections.abc import Sequence
from functools import partial

from PIL import Image

from darkroom.data.manifest import Row
from darkroom.results import images
from darkroom.system.parallel import on_every_core

SIDE = 96  # pixels on the longer side
QUALITY = 75  # of WebP


def thumbnails(rows: Sequence[Row], revision: str | None, limit: int) -> list[str]:
    """A `data:` URI for each image, in order, until they take `limit` bytes together.

    Args:
        rows: Rows of the manifest.
        revision: The revision whose images they are; None: the work tree.
        limit: Bytes. The list is shorter than `rows` where they would take more.
    """
    found: list[str] = []
    used = 0
    for uri in on_every_core(partial(thumbnail, revision), rows):
        used += len(uri)
        if used > limit:
            break
        found.append(uri)
    return found


def thumbnail(revision: str | None, row: Row) -> str:
    """The thumbnail of an image; grey if the image cannot be had."""
    return as_uri(images.fetch(row, revision), SIDE)


def as_uri(image: Image.Image, side: int) -> str:
    """`image` as a WebP in a `data:` URI; its longer side has at most `side` pixels."""
    image = image.copy()
    image.thumbnail((side, side), reducing_gap=2)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
