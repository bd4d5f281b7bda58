"""Picture of the stage stats: contact sheets."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from darkroom.system.files import write_bytes

TILE = 96  # pixels of a thumbnail's side, with a frame of one
COLUMNS = 8
HEAD = 24  # pixels above the thumbnails
FONT = "fonts/ttf/DejaVuSans.ttf"  # in matplotlib's data: the font of the charts


def contact_sheet(label: str, images: Sequence[Image.Image], count: int, path: str | Path) -> None:
    """Thumbnails, up to eight per row, under the label and the number of images. Each shows its whole image.

    Args:
        label: The class.
        images: Those of its images that are shown, of `TILE` - 2 pixels at most.
        count: The number of all its images.
        path: The PNG file.
    """
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, HEAD + rows * TILE), "white")
    _write_head(sheet, label, f"{len(images):,} of {count:,} training images")
    for index, image in enumerate(images):
        sheet.paste(image, (index % COLUMNS * TILE + 1, HEAD + index // COLUMNS * TILE + 1))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def _write_head(sheet: Image.Image, label: str, shown: str) -> None:
    """The label at the left, what is shown at the right. A label that is too long for the line is cut."""
    # The basic layout is Pillow's own; the other one is that of a library of the system, which may be missing.
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / FONT), 14, layout_engine=ImageFont.Layout.BASIC)
    draw = ImageDraw.Draw(sheet)
    room = sheet.width - draw.textlength(shown, font) - 24
    text = printable = label.encode("utf-8", "replace").decode()
    while draw.textlength(text, font) > room:
        printable = printable[:-1]
        text = f"{printable}…"
    draw.text((4, 3), text, "black", font)
    draw.text((sheet.width - 4, 3), shown, "black", font, anchor="ra")
