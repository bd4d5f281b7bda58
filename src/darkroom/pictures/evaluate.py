"""Charts of the stage evaluate. Every `Mapping` is keyed by the models' titles, in the order of the list of models."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix

from darkroom.pictures.palette import COLOURS, MARKERS, colours_and_lines
from darkroom.pictures.style import legend_panel, panels

NUMBERED = 20  # classes; with more, the cells of a confusion matrix are too small for numbers
FEW = 8  # classes; with more, a legend would hide the curves, and gets a panel for itself
LABELLED = 60  # classes; with more, not every row and column gets its name


def curves(rows: Mapping[str, Sequence[Mapping[str, str]]], path: str | Path) -> None:
    """Loss, accuracy and learning rate of each model by epoch; `rows` are those of plots/train_NAME.csv."""
    with panels(path, ["Loss", "Accuracy", "Learning rate"], (3.6, 3.0)) as axes:
        for colour, (title, epochs) in zip(cycle(COLOURS), rows.items(), strict=False):
            numbers = [int(row["epoch"]) for row in epochs]
            for ax, metric in zip(axes[:2], ("loss", "accuracy"), strict=True):
                for side, line in (("train", "--"), ("val", "-")):
                    values = [float(row[f"{side}_{metric}"]) for row in epochs]
                    ax.plot(numbers, values, line, color=colour, label=f"{title}, {side}")
            axes[2].plot(numbers, [float(row["lr"]) for row in epochs], color=colour, label=title)
        axes[0].set_ylabel("cross-entropy (nats)")
        axes[1].set_ylabel("share of images")
        axes[2].set_ylabel("at the end of the epoch")
        axes[2].set_yscale("log")
        highest = max((float(row["lr"]) for epochs in rows.values() for row in epochs), default=1.0)
        axes[2].set_ylim(bottom=highest / 1e5)  # the last steps of a schedule go down to nothing
        axes[2].yaxis.set_major_formatter("{x:g}")  # the usual one writes formulas
        for ax in axes:
            ax.set_xlabel("epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
        if rows:
            axes[0].legend()
            axes[2].legend()


def confusion(labels: np.ndarray, predicted: Mapping[str, np.ndarray], classes: list[str], path: str | Path) -> None:
    """Each model's confusion matrix. A cell shows the count; its colour is the share of its row.

    Args:
        labels: int64 (N,), the classes that the images have.
        predicted: Title -> int64 (N,), the classes that the model predicts.
        classes: The class names.
        path: The PNG file.
    """
    count = len(classes)
    side = max(3.2, 0.7 * min(count, NUMBERED) + 1.4)
    with panels(path, list(predicted), (side + 0.4, side), sharey=True) as axes:
        for ax, classified in zip(axes, predicted.values(), strict=True):
            counts = confusion_matrix(labels, classified, labels=range(count))
            share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            picture = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
            for (row, column), number in np.ndenumerate(counts) if count <= NUMBERED else ():
                shade = "white" if share[row, column] > 0.55 else "black"
                ax.text(column, row, number, ha="center", va="center", color=shade)
            ticks = range(0, count, -(-count // LABELLED))
            size = min(9.0, 9 * 1.6 * NUMBERED / len(ticks))
            ax.set_xticks(
                ticks, [classes[index] for index in ticks], rotation=90 if count > NUMBERED else 35, ha="right"
            )
            ax.set_yticks(ticks, [classes[index] for index in ticks])
            ax.tick_params(labelsize=size)
            ax.set_xlabel("predicted")
            ax.grid(visible=False)
        axes[0].set_ylabel("actual")
        plt.colorbar(picture, ax=list(axes), label="share of the actual class", shrink=0.8)


def roc(curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], path: str | Path) -> None:
    """A ROC curve per model and class. `curves` maps title -> class -> (false positive rates, true positive rates)."""
    classes = len(next(iter(curves.values())))
    for_legend = [""] if classes > FEW else []
    with panels(path, [*curves, *for_legend], (4.0, 3.8), sharey=True) as axes:
        for ax, by_class in zip(axes, curves.values(), strict=False):
            for (label, (x, y)), (colour, line) in zip(by_class.items(), colours_and_lines(), strict=False):
                ax.plot(x, y, line, color=colour, label=label, drawstyle="steps-post")
            ax.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
            ax.set_xlabel("false positive rate")
            ax.set_aspect("equal")
        axes[0].set_ylabel("true positive rate")
        title = "class against the rest"
        if for_legend:
            handles, labels = axes[0].get_legend_handles_labels()
            legend_panel(axes[-1], handles, labels, title)
        else:
            axes[-1].legend(loc="lower right", title=title)


def reliability(tables: Mapping[str, Sequence[tuple[float, float, int]]], path: str | Path) -> None:
    """Accuracy against confidence. Each row of a table is a bin: its confidence, its accuracy, its number of images."""
    with panels(path, ["Reliability (area: images in the bin)"], (4.6, 4.2)) as (ax,):
        ax.plot([0, 1], [0, 1], ":", color="grey", label="as sure as right")
        for colour, marker, (title, table) in zip(cycle(COLOURS), cycle(MARKERS), tables.items(), strict=False):
            x, y, counts = (np.array(column) for column in zip(*table, strict=True))
            ax.plot(x, y, color=colour, linewidth=1)
            ax.scatter(x, y, 300 * counts / counts.sum() + 4, color=colour, marker=marker, alpha=0.7, label=title)
        ax.set_xlabel("confidence: probability of the predicted class")
        ax.set_ylabel("accuracy: share that is right")
        ax.set_xlim(0, 1.02)
        ax.set_ylim(0, 1.02)
        for handle in ax.legend(loc="upper left").legend_handles:
            if hasattr(handle, "set_sizes"):
                handle.set_sizes([40])


def risk_coverage(curves: Mapping[str, Sequence[tuple[float, float]]], path: str | Path) -> None:
    """The share of wrong answers among the surest images. `curves` maps title -> (share answered, share wrong) of each point."""
    with panels(path, ["Errors if only the surest images are answered"], (4.6, 3.4)) as (ax,):
        for (title, points), (colour, line) in zip(curves.items(), colours_and_lines(), strict=False):
            answered, wrong = zip(*points, strict=True)
            ax.plot(answered, wrong, line, color=colour, label=title)
        ax.set_xlabel("share of test images that is answered")
        ax.set_ylabel("share of the answers that is wrong")
        ax.set_xlim(0, 1)
        ax.set_ylim(bottom=0)
        ax.legend(loc="upper left")


def layers(networks: Mapping[str, Sequence[tuple[str, str, int]]], path: str | Path) -> None:
    """Each network as a table. Each row is a layer: its name, its output shape, its number of parameters."""
    highest = max(map(len, networks.values())) + 2  # with the header and the sum
    with panels(path, list(networks), (6.4, 0.22 * highest + 0.7)) as axes:
        for ax, rows in zip(axes, networks.values(), strict=True):
            ax.axis("off")
            total = ("all", "", sum(row[2] for row in rows))
            cells = [[name, shape, f"{number:,}"] for name, shape, number in [*rows, total]]
            share = (len(cells) + 1) / highest
            table = ax.table(
                cells,
                colLabels=["layer", "output (C x H x W)", "parameters"],
                colWidths=[0.5, 0.32, 0.18],
                bbox=(0, 1 - share, 1, share),
            )
            table.auto_set_font_size(False)
            table.set_fontsize(8)
            for (row, column), cell in table.get_celld().items():
                cell.set_linewidth(0)
                cell.set_facecolor("#dde6ef" if row == 0 else "white" if row % 2 else "#f5f5f5")
                cell.set_text_props(ha="right" if column == 2 else "left")
