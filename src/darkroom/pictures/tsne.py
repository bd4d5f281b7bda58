"""Chart of the stage tsne."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from darkroom.pictures import palette
from darkroom.pictures.style import legend_panel, panels

# `make deps` writes them into .dvc/plots/tsne.json, too.
COLOURS = palette.COLOURS
TRAIN, TEST = ", train", ", test"  # ends of the labels in the legend
FEW = 8  # classes; with more, the legend gets a panel for itself


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
    for_legend = [""] if len(classes) > FEW else []
    with panels(path, [*models, *for_legend], (4.6, 4.4)) as axes:
        for ax, model in zip(axes, models, strict=False):
            _map(ax, [point for point in points if point.model == model], classes)
        handles, labels = axes[0].get_legend_handles_labels()
        if for_legend:
            test = {
                label.removesuffix(TEST): handle
                for handle, label in zip(handles, labels, strict=True)
                if label.endswith(TEST)
            }
            title = "test images; train images are small and pale"
            legend_panel(axes[-1], list(test.values()), list(test), title)
        else:
            columns = min(4, len(classes))
            axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=columns, markerscale=1.4)


def _map(ax: Any, points: Sequence[Point], classes: Sequence[str]) -> None:
    """The images of one model."""
    looks: dict[str, dict[str, Any]] = {
        TRAIN: {"s": 8, "alpha": 0.45, "linewidths": 0},
        TEST: {"s": 20, "alpha": 0.9, "linewidths": 0.5, "edgecolors": "black"},
    }
    for side, look in looks.items():
        for label, (colour, marker) in zip(classes, palette.colours_and_markers(COLOURS), strict=False):
            shown = [(p.x, p.y) for p in points if p.label == label and side.endswith(p.split)]
            if shown:
                ax.scatter(*np.array(shown).T, color=colour, marker=marker, label=label + side, **look)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("t-SNE 1 (no unit)")
    ax.set_ylabel("t-SNE 2 (no unit)")
