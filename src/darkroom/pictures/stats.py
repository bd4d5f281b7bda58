"""Picture of the stage stats: contact sheets."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from darkroom.system.files import write_bytes

TILE = 96  # pixels of a thumbnail's side


def contact_sheet(images: Sequence[Image.Image], path: str | Path) -> None:
    """Thumbnails, up to eight per row. Each shows its whole image in its proportions."""
    columns = min(len(images), 8)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * TILE), "white")
    for index, image in enumerate(images):
        small = image.copy()
        small.thumbnail((TILE - 2, TILE - 2))
        sheet.paste(small, (index % columns * TILE + 1, index // columns * TILE + 1))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
