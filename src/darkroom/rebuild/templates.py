"""Write the colours, lines and markers of the charts in pictures/ into DVC's plot templates, .dvc/plots/*.json."""

import json
from pathlib import Path
from typing import Any

from darkroom.pictures import palette, tsne
from darkroom.system.files import write_bytes

FOLDER = Path(".dvc/plots")
COLOURS = {"tsne": tsne.COLOURS}  # templates of charts that have another palette than the others
# Vega's names for palette.MARKERS and palette.LINES, in the same order. It has no X and no star: these are paths.
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "X": "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z",
    "*": "M0,-1L.24,-.32L.95,-.31L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31L-.24,-.32Z",
}
DASHES = {"-": [1, 0], "--": [6, 3], "-.": [6, 2, 1, 2], ":": [1, 2]}


def write() -> list[str]:
    """Write the looks into each template and return the names of those that changed."""
    changed = []
    for path in sorted(FOLDER.glob("*.json")):
        before = path.read_text(encoding="utf-8")
        after = json.dumps(with_looks(json.loads(before), COLOURS.get(path.stem, palette.COLOURS)), indent=2) + "\n"
        if after != before:
            write_bytes(path, after.encode())
            changed.append(path.stem)
    return changed


def with_looks(template: dict[str, Any], colours: list[str]) -> dict[str, Any]:
    """A copy of a Vega-Lite template that uses `colours` for its marks and categories.

    The categories of an encoding of `class` by shape or line have each colour with the first shape, then each with the second,
    and so on, as in the charts of pictures/.
    """
    markers = [SYMBOLS[marker] for marker in palette.MARKERS]
    lines = [DASHES[line] for line in palette.LINES]
    ranges = {
        "shape": [marker for marker in markers for _ in colours],
        "strokeDash": [line for line in lines for _ in colours],
    }
    for channel, encoding in template.get("spec", {}).get("encoding", {}).items():
        if encoding and isinstance(encoding, dict) and encoding.get("field") == "class" and channel in ranges:
            encoding["scale"] = {"range": ranges[channel]}
    looks = {"category": colours, "symbol": markers}
    config = {**template.get("config", {}), "mark": {"color": colours[0]}, "range": looks}
    return {**template, "config": config}
