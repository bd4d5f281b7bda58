"""data/groups.csv and data/sides.csv, which name images by path: their rows follow an image that moves."""

import csv
import io
from collections.abc import Iterator, Mapping

from darkroom.data.layout import GROUPS, PINNED

TABLES = (GROUPS, PINNED)
COLUMN = ("path", "\ufeffpath")  # Excel puts a mark before the first column's name


def records(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Each record of a CSV file: its text as it stands there, and its cells."""
    text = content.decode("utf-8", "surrogateescape")
    lines = list(io.StringIO(text, newline=""))  # splitlines() splits at U+2028, too
    reader, done = csv.reader(iter(lines)), 0
    for cells in reader:
        yield "".join(lines[done : reader.line_num]), cells
        done = reader.line_num


def paths(content: bytes) -> set[str]:
    """The images that a table names."""
    column = None
    found = set()
    for _, cells in records(content):
        if column is None:
            column = next((cells.index(name) for name in COLUMN if name in cells), len(cells))
        elif column < len(cells):
            found.add(cells[column])
    return found


def renamed(content: bytes, moves: Mapping[str, str]) -> bytes:
    """A table with the new paths of the images that moved. All other rows keep their bytes."""
    column = None
    texts = []
    for text, cells in records(content):
        if column is None:
            column = next((cells.index(name) for name in COLUMN if name in cells), len(cells))
        elif column < len(cells) and cells[column] in moves:
            cells[column] = moves[cells[column]]
            end = text[len(text.rstrip("\r\n")) :]
            buffer = io.StringIO()
            csv.writer(buffer, lineterminator=end).writerow(cells)
            text = buffer.getvalue()
        texts.append(text)
    return "".join(texts).encode("utf-8", "surrogateescape")
