"""Write the colours of the charts in pictures/ into DVC's plot templates, .dvc/plots/*.json."""

import json
from pathlib import Path
from typing import Any

from darkroom.pictures import palette, tsne
from darkroom.system.files import write_bytes

FOLDER = Path(".dvc/plots")
COLOURS = {"tsne": tsne.COLOURS}  # templates of charts that have another palette than the others


def write() -> list[str]:
    """Write the colours into each template and return the names of those that changed."""
    changed = []
    for path in sorted(FOLDER.glob("*.json")):
        before = path.read_text(encoding="utf-8")
        after = json.dumps(with_colours(json.loads(before), COLOURS.get(path.stem, palette.COLOURS)), indent=2) + "\n"
        if after != before:
            write_bytes(path, after.encode())
            changed.append(path.stem)
    return changed


def with_colours(template: dict[str, Any], colours: list[str]) -> dict[str, Any]:
    """A copy of a Vega-Lite template that uses `colours` for its marks and categories."""
    config = {**template.get("config", {}), "mark": {"color": colours[0]}, "range": {"category": colours}}
    return {**template, "config": config}
