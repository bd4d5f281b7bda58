"""Chart of the stage tsne."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darkroom.pictures.palette import colours_and_markers
from darkroom.pictures.style import panels


class Point(NamedTuple):
    """An image's position in the map of a model. `model` is the model's title in the chart, its name in the CSV."""

    model: str
    label: str
    split: str
    path: str
    x: float
    y: float


def tsne(points: Sequence[Point], path: str | Path) -> None:
    """A map per model: a colour per class, train images small and pale, test images large and outlined."""
    models = list(dict.fromkeys(point.model for point in points))
    classes = sorted({point.label for point in points})
    with panels(path, models, (4.6, 4.4)) as axes:
        for ax, model in zip(axes, models, strict=True):
            for side, look in (
                ("train", {"s": 8, "alpha": 0.45, "linewidths": 0}),
                ("test", {"s": 20, "alpha": 0.9, "linewidths": 0.5, "edgecolors": "black"}),
            ):
                for label, (colour, marker) in zip(classes, colours_and_markers(), strict=False):
                    shown = [(p.x, p.y) for p in points if (p.model, p.split, p.label) == (model, side, label)]
                    if shown:
                        ax.scatter(*np.array(shown).T, color=colour, marker=marker, label=f"{label}, {side}", **look)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_xlabel("t-SNE 1 (no unit)")
            ax.set_ylabel("t-SNE 2 (no unit)")
        handles, labels = axes[0].get_legend_handles_labels()
        small = {} if len(classes) <= 20 else {"fontsize": 5}
        axes[0].figure.legend(
            handles, labels, loc="outside lower center", ncols=min(4, len(classes)), markerscale=1.4, **small
        )
