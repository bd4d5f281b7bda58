"""Every picture. Arrays in, PNG out: the same bytes for the same numbers."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from PIL import Image
from sklearn.metrics import confusion_matrix

from darkroom.system.files import write_bytes

matplotlib.use("Agg")  # no display is needed, and none decides how pixels are drawn
from matplotlib import pyplot as plt

# Okabe and Ito 2008: told apart with any kind of colour vision.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000"]
TITLES = {"scratch": "from scratch", "finetune": "fine-tuned"}
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
TILE = 96  # pixels of a contact sheet's thumbnail


class Point(NamedTuple):
    """Where t-SNE puts an image."""

    model: str
    label: str
    split: str
    path: str
    x: float
    y: float


@contextmanager
def panels(
    path: str | Path, titles: Sequence[str], size: tuple[float, float], **options: Any
) -> Iterator[Sequence[Any]]:
    """Axes side by side, one a title, each `size` inches; saved to `path` when the block ends."""
    with plt.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", **STYLE}):
        width, height = size
        figure, axes = plt.subplots(
            1, len(titles), figsize=(width * len(titles), height), squeeze=False, layout="constrained", **options
        )
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title)
        yield axes[0]
        _save(figure, path)


def _save(figure: Any, path: str | Path) -> None:
    """The figure as PNG, without matplotlib's signature, which has its version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""}, bbox_inches="tight")
    plt.close(figure)
    write_bytes(path, buffer.getvalue())


def contact_sheet(images: Sequence[Image.Image], path: str | Path) -> None:
    """Thumbnails in rows, each whole and in its own proportions."""
    columns = min(len(images), 8)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * TILE), "white")
    for index, image in enumerate(images):
        small = image.copy()
        small.thumbnail((TILE - 2, TILE - 2))
        sheet.paste(small, (index % columns * TILE + 1, index // columns * TILE + 1))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def captioned_sheet(shown: Sequence[tuple[Image.Image, str]], path: str | Path) -> None:
    """Thumbnails, six a row, each under its caption."""
    rows = max(1, -(-len(shown) // 6))
    with plt.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", **STYLE, "font.size": 7}):
        figure, axes = plt.subplots(rows, 6, figsize=(10, 1.9 * rows), squeeze=False, layout="constrained")
        for ax in axes.flat:
            ax.axis("off")
        for ax, (image, caption) in zip(axes.flat, shown, strict=False):
            ax.imshow(image)
            ax.set_title(caption, fontsize=7)
        _save(figure, path)


def pairs(shown: Sequence[tuple[Image.Image, Image.Image, str]], path: str | Path) -> None:
    """Pairs of images side by side with a caption each, two pairs a row."""
    rows = max(1, -(-len(shown) // 2))
    with plt.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", **STYLE}):
        figure, axes = plt.subplots(rows, 4, figsize=(8, 2.2 * rows), squeeze=False, layout="constrained")
        for ax in axes.flat:
            ax.axis("off")
        if not shown:
            axes[0, 0].text(0, 0.5, "no near duplicates across train and test")
        for index, (first, second, caption) in enumerate(shown):
            left, right = axes[index // 2, index % 2 * 2], axes[index // 2, index % 2 * 2 + 1]
            left.imshow(first)
            left.set_title(f"train, {caption}")
            right.imshow(second)
            right.set_title("test")
        _save(figure, path)


def curves(rows: Mapping[str, Sequence[Mapping[str, str]]], path: str | Path) -> None:
    """Loss, accuracy and learning rate of each model's epochs; `rows` are those of the CSVs."""
    with panels(path, ["Loss", "Accuracy", "Learning rate"], (3.6, 3.0)) as axes:
        for colour, (name, own) in zip(COLOURS, rows.items(), strict=False):
            epochs = [int(row["epoch"]) for row in own]
            for ax, what in zip(axes[:2], ("loss", "accuracy"), strict=True):
                for side, line in (("train", "--"), ("val", "-")):
                    values = [float(row[f"{side}_{what}"]) for row in own]
                    ax.plot(epochs, values, line, color=colour, label=f"{TITLES[name]}, {side}")
            axes[2].plot(epochs, [float(row["lr"]) for row in own], color=colour, label=TITLES[name])
        axes[0].set_ylabel("cross-entropy (nats)")
        axes[1].set_ylabel("share of images")
        axes[2].set_ylabel("at the end of the epoch")
        axes[2].set_yscale("log")
        highest = max(float(row["lr"]) for own in rows.values() for row in own)
        axes[2].set_ylim(bottom=highest / 1e5)  # the last steps of a schedule go down to nothing
        axes[2].yaxis.set_major_formatter("{x:g}")  # the usual one writes formulas
        for ax in axes:
            ax.set_xlabel("epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[0].legend()
        axes[2].legend()


def confusion(labels: np.ndarray, predicted: Mapping[str, np.ndarray], classes: list[str], path: str | Path) -> None:
    """Each model's confusion matrix: counts, on the colour of their share of the row."""
    side = max(3.2, 0.7 * len(classes) + 1.4)
    with panels(path, [TITLES[name] for name in predicted], (side + 0.4, side), sharey=True) as axes:
        for ax, own in zip(axes, predicted.values(), strict=True):
            counts = confusion_matrix(labels, own, labels=range(len(classes)))
            share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            picture = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
            for (row, column), number in np.ndenumerate(counts):
                shade = "white" if share[row, column] > 0.55 else "black"
                ax.text(column, row, number, ha="center", va="center", color=shade)
            ax.set_xticks(range(len(classes)), classes, rotation=35, ha="right")
            ax.set_yticks(range(len(classes)), classes)
            ax.set_xlabel("predicted")
            ax.grid(visible=False)
        axes[0].set_ylabel("actual")
        plt.colorbar(picture, ax=list(axes), label="share of the actual class", shrink=0.8)


def roc(curves: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]], path: str | Path) -> None:
    """One curve a model and class; the keys are (model, class), the values false and true positive rates."""
    names = list(dict.fromkeys(model for model, _ in curves))
    with panels(path, [TITLES[name] for name in names], (4.0, 3.8), sharey=True) as axes:
        for ax, name in zip(axes, names, strict=True):
            own = {label: curve for (model, label), curve in curves.items() if model == name}
            for (label, (x, y)), (colour, line) in zip(own.items(), colours_and_lines(), strict=False):
                ax.plot(x, y, line, color=colour, label=label, drawstyle="steps-post")
            ax.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
            ax.set_xlabel("false positive rate")
            ax.set_aspect("equal")
        axes[0].set_ylabel("true positive rate")
        axes[-1].legend(loc="lower right", title="class against the rest")


def reliability(tables: Mapping[str, Sequence[tuple[float, float, int]]], path: str | Path) -> None:
    """Accuracy against confidence; each row is a bin's confidence, accuracy and number of images, which is its area."""
    with panels(path, ["Reliability (area: images in the bin)"], (4.6, 4.2)) as (ax,):
        ax.plot([0, 1], [0, 1], ":", color="grey", label="as sure as right")
        for colour, marker, (name, table) in zip(COLOURS, "os", tables.items(), strict=False):
            x, y, counts = (np.array(column) for column in zip(*table, strict=True))
            ax.plot(x, y, color=colour, linewidth=1)
            ax.scatter(
                x, y, 300 * counts / counts.sum() + 4, color=colour, marker=marker, alpha=0.7, label=TITLES[name]
            )
        ax.set_xlabel("confidence: probability of the predicted class")
        ax.set_ylabel("accuracy: share that is right")
        ax.set_xlim(0, 1.02)
        ax.set_ylim(0, 1.02)
        for handle in ax.legend(loc="upper left").legend_handles:
            if hasattr(handle, "set_sizes"):
                handle.set_sizes([40])


def layers(rows: Sequence[tuple[str, str, int]], path: str | Path) -> None:
    """The network as a table: layer, output shape, parameters."""
    total = ("all", "", sum(row[2] for row in rows))
    cells = [[name, shape, f"{number:,}"] for name, shape, number in [*rows, total]]
    with panels(path, ["Network from scratch"], (6.4, 0.22 * len(cells) + 0.7)) as (ax,):
        ax.axis("off")
        table = ax.table(
            cells,
            colLabels=["layer", "output (C x H x W)", "parameters"],
            colWidths=[0.5, 0.32, 0.18],
            bbox=(0, 0, 1, 1),
        )
        table.auto_set_font_size(False)
        table.set_fontsize(8)
        for (row, column), cell in table.get_celld().items():
            cell.set_linewidth(0)
            cell.set_facecolor("#dde6ef" if row == 0 else "white" if row % 2 else "#f5f5f5")
            cell.set_text_props(ha="right" if column == 2 else "left")


def tsne(points: Sequence[Point], path: str | Path) -> None:
    """Each model's map: a colour a class, train small and pale, test large and outlined."""
    names = list(dict.fromkeys(point.model for point in points))
    classes = sorted({point.label for point in points})
    with panels(path, [TITLES[name] for name in names], (4.6, 4.4)) as axes:
        for ax, name in zip(axes, names, strict=True):
            for side, look in (
                ("train", {"s": 8, "alpha": 0.45, "linewidths": 0}),
                ("test", {"s": 20, "alpha": 0.9, "linewidths": 0.5, "edgecolors": "black"}),
            ):
                for label, (colour, _) in zip(classes, colours_and_lines(), strict=False):
                    own = [(p.x, p.y) for p in points if (p.model, p.split, p.label) == (name, side, label)]
                    if own:
                        ax.scatter(*np.array(own).T, color=colour, label=f"{label}, {side}", **look)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_xlabel("t-SNE 1 (no unit)")
            ax.set_ylabel("t-SNE 2 (no unit)")
        figure = axes[0].figure
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(classes)), markerscale=1.4)


def colours_and_lines() -> Iterator[tuple[str, str]]:
    """Colours, and beyond the eighth class the same ones with another line."""
    for line in cycle(["-", "--", "-.", ":"]):
        for colour in COLOURS:
            yield colour, line
