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
SMALL, ENTRIES = 24, 120  # entries of a legend; with more, its letters are small, and the rest is left out
LETTERS = 28  # of the name of a class


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


def legend_below(figure: Any, handles: Sequence[Any], labels: Sequence[str], title: str = "") -> None:
    """A legend under the charts, in as many columns as fit. Only the first entries are shown if there are too many."""
    small = {"fontsize": 6.5, "columnspacing": 1.0, "handletextpad": 0.3} if len(labels) > SMALL else {}
    letters = max(map(len, labels[:ENTRIES]), default=0)
    inches = (letters + 7) * (0.06 if small else 0.085)
    if len(labels) > ENTRIES:
        title = f"{title} (the first {ENTRIES} of {len(labels)})"
    columns = max(1, min(len(labels), int(figure.get_figwidth() / inches)))
    rows = -(-min(len(labels), ENTRIES) // columns) + 1
    figure.set_figheight(figure.get_figheight() + rows * (0.13 if small else 0.18))
    figure.legend(
        handles[:ENTRIES], labels[:ENTRIES], loc="outside lower center", title=title or None, ncols=columns, **small
    )


def short(label: str) -> str:
    """A name that leaves room for others."""
    return label if len(label) <= LETTERS else f"{label[: LETTERS - 1]}…"
