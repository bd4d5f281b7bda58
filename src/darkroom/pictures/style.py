"""What all charts have in common: fonts, axes, and PNG files that have the same bytes for the same numbers."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

from darkroom.system.files import write_bytes

matplotlib.use("Agg")  # draws without a display, in the same way everywhere
from matplotlib import pyplot as plt

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # the one font that comes with matplotlib
    "font.size": 9,
    "figure.dpi": 110,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be named $x$
}
COLUMN, ENTRIES = 27, 108  # entries of a legend that fit into a column, and into a panel


@contextmanager
def grid(path: str | Path, rows: int, columns: int, size: tuple[float, float], **options: Any) -> Iterator[Any]:
    """Yield (rows, columns) axes in a chart of `size` inches, and save it to `path` when the block ends."""
    with plt.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", **STYLE}):
        chart, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)
        yield axes
        buffer = io.BytesIO()
        # Without the usual signature, which names matplotlib's version.
        chart.savefig(buffer, format="png", metadata={"Software": ""}, bbox_inches="tight")
        plt.close(chart)
        write_bytes(path, buffer.getvalue())


@contextmanager
def panels(
    path: str | Path, titles: Sequence[str], size: tuple[float, float], **options: Any
) -> Iterator[Sequence[Any]]:
    """Yield axes side by side, one per title, each of `size` inches, and save them to `path` when the block ends."""
    width, height = size
    with grid(path, 1, len(titles), (width * len(titles), height), **options) as axes:
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title)
        yield axes[0]


def legend_panel(ax: Any, handles: Sequence[Any], labels: Sequence[str], title: str) -> None:
    """A legend of many entries instead of a chart. Only the first entries are shown if they do not all fit."""
    if len(labels) > ENTRIES:
        handles, labels = handles[:ENTRIES], labels[:ENTRIES]
        title = f"{title} (the first {ENTRIES})"
    ax.axis("off")
    columns = -(-len(labels) // COLUMN)
    small = {"fontsize": 5.5, "columnspacing": 1.0} if columns > 1 else {}
    legend = ax.legend(handles, labels, loc="center left", title=title, ncols=columns, borderaxespad=0, **small)
    legend.set_in_layout(False)  # else the charts shrink to make room for it
