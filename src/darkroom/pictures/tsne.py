"""Chart of the stage tsne."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.lines import Line2D

from darkroom.pictures import palette
from darkroom.pictures.style import legend_below, panels, short

# `make deps` writes them into .dvc/plots/tsne.json, too.
COLOURS = palette.COLOURS
DISTINCT = 16  # classes; with more, colours and markers are hard to tell apart, and each class has a number
LOOKS: dict[str, dict[str, Any]] = {
    "train": {"s": 8, "alpha": 0.45, "linewidths": 0},
    "test": {"s": 20, "alpha": 0.9, "linewidths": 0.5, "edgecolors": "black"},
}


class Point(NamedTuple):
    """An image's position in the map of a model. `model` is the model's title in the chart, its name in the CSV."""

    model: str
    label: str
    split: str
    path: str
    x: float
    y: float


def tsne(points: Sequence[Point], path: str | Path) -> None:
    """A map per model: a colour and marker per class, train images small and pale, test images large and outlined.

    Many classes have a number each, which stands at the median of its test images, and in the legend before its name.
    """
    models = list(dict.fromkeys(point.model for point in points))
    classes = sorted({point.label for point in points})
    numbered = len(classes) > DISTINCT
    with panels(path, models, (6.4, 6.2) if numbered else (4.6, 4.4)) as axes:
        for ax, model in zip(axes, models, strict=True):
            _map(ax, own := [point for point in points if point.model == model], classes)
            if numbered:
                _number(ax, own, classes)
        looks = zip(classes, palette.colours_and_markers(COLOURS), strict=False)
        handles = [
            Line2D([], [], linestyle="", color=colour, marker=marker, markersize=5, markeredgecolor="black")
            for _, (colour, marker) in looks
        ]
        names = [f"{k} {short(name)}" if numbered else short(name) for k, name in enumerate(classes, 1)]
        title = "test images have an outline, train images are small and pale"
        legend_below(axes[0].figure, handles, names, title)


def _map(ax: Any, points: Sequence[Point], classes: Sequence[str]) -> None:
    """The images of one model."""
    for side, look in LOOKS.items():
        for label, (colour, marker) in zip(classes, palette.colours_and_markers(COLOURS), strict=False):
            shown = [(p.x, p.y) for p in points if p.label == label and p.split == side]
            if shown:
                ax.scatter(*np.array(shown).T, color=colour, marker=marker, **look)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("t-SNE 1 (no unit)")
    ax.set_ylabel("t-SNE 2 (no unit)")


def _number(ax: Any, points: Sequence[Point], classes: Sequence[str]) -> None:
    """The number of each class, where its test images are, or its train images if it has no other."""
    for number, label in enumerate(classes, 1):
        of_class = [point for point in points if point.label == label]
        shown = [point for point in of_class if point.split == "test"] or of_class
        if shown:
            place = np.median([(point.x, point.y) for point in shown], axis=0)
            halo = [patheffects.withStroke(linewidth=2, foreground="white")]
            ax.text(*place, number, ha="center", va="center", fontsize=8, fontweight="bold", path_effects=halo)
