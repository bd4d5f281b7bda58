"""What each model takes for what, in base and in head: as Markdown, and as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from darkroom.comparison.compare import Shared
from darkroom.pictures import evaluate as pictures
from darkroom.system.markdown import cell

TABLE = 8  # classes; with more, the Markdown lists the cells that changed most
LISTED = 10  # of these cells


def counts(shared: Shared, model: str) -> tuple[np.ndarray, np.ndarray]:
    """The confusion matrices of a model in base and in head, int64 (K, K) each: actual class by predicted class."""
    base, head = (
        confusion_matrix(shared.labels, side[model].predicted, labels=range(len(shared.classes)))
        for side in (shared.base, shared.head)
    )
    return base, head


def markdown(shared: Shared, model: str) -> str:
    """The matrices as Markdown: a table, or for more than eight classes a list of the cells that changed most."""
    base, head = counts(shared, model)
    if len(shared.classes) <= TABLE:
        return _table(base, head, shared.classes)
    cells = np.argwhere(base != head)
    ranked = sorted(cells.tolist(), key=lambda place: -abs(int(head[tuple(place)]) - int(base[tuple(place)])))
    lines = [
        f"- {cell(shared.classes[row])} called {cell(shared.classes[column])}: {base[row, column]} → {head[row, column]}"
        for row, column in ranked[:LISTED]
    ]
    return "\n".join([*lines, *([f"- and {len(ranked) - LISTED} more"] if len(ranked) > LISTED else [])])


def _table(base: np.ndarray, head: np.ndarray, classes: Sequence[str]) -> str:
    """A row for each actual class. A cell that changed has both numbers."""
    lines = [
        f"| actual ↓ predicted → | {' | '.join(map(cell, classes))} |",
        f"|---|{'---:|' * len(classes)}",
    ]
    for label, before, after in zip(classes, base.tolist(), head.tolist(), strict=True):
        cells = [str(new) if old == new else f"{old} → {new}" for old, new in zip(before, after, strict=True)]
        lines.append(f"| {cell(label)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(shared: Shared, model: str, path: Path) -> None:
    """Write a picture of the matrices in base and in head, side by side."""
    classes = [label if label.isprintable() else ascii(label) for label in shared.classes]
    predicted = {"before": shared.base[model].predicted, "now": shared.head[model].predicted}
    pictures.confusion(shared.labels, predicted, classes, path)
