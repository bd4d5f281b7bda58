"""Charts of the stage evaluate. Every `Mapping` is keyed by the models' titles, in the order of the list of models."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix

from darkroom.pictures.palette import COLOURS, MARKERS, colours_and_lines
from darkroom.pictures.style import legend_below, panels, short

NUMBERED = 20  # classes; with more, the cells of a confusion matrix are too small for numbers
MANY = 8  # classes; with more, a confusion matrix shows no zeros, and its labels stand upright
DISTINCT = 16  # classes; with more, ROC curves lie on one another, and only the weakest are named
LABELLED = 60  # classes; with more, a confusion matrix shows only the `CONFUSED` ones that are confused most
CONFUSED = 20  # classes; so few that their numbers can be read
Bins = Sequence[tuple[float, float, int]]  # a row for each bin: its confidence, its accuracy, its number of images


def curves(rows: Mapping[str, Sequence[Mapping[str, str]]], path: str | Path) -> None:
    """Loss, accuracy and learning rate of each model by epoch; `rows` are those of plots/train_NAME.csv.

    A model without epochs has no rows. Its colour is left out, so that the others have theirs of the other charts.
    """
    coloured = zip(cycle(COLOURS), rows.items(), strict=False)
    trained = [(colour, title, epochs) for colour, (title, epochs) in coloured if epochs]
    with panels(path, ["Loss", "Accuracy", "Learning rate"], (3.6, 3.0)) as axes:
        for colour, title, epochs in trained:
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
        highest = max((float(row["lr"]) for _, _, epochs in trained for row in epochs), default=1.0)
        axes[2].set_ylim(bottom=highest / 1e5)  # the last steps of a schedule go down to nothing
        axes[2].yaxis.set_major_formatter("{x:g}")  # the usual one writes formulas
        for ax in axes:
            ax.set_xlabel("epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
        if trained:
            legend_below(axes[0].figure, *axes[0].get_legend_handles_labels())


def confusion(labels: np.ndarray, predicted: Mapping[str, np.ndarray], classes: list[str], path: str | Path) -> None:
    """Each model's confusion matrix. A cell shows the count; its colour is the share of its row.

    Of many classes, those with the most frequent mistakes of all models are shown.

    Args:
        labels: int64 (N,), the classes that the images have.
        predicted: Title -> int64 (N,), the classes that the model predicts.
        classes: The class names.
        path: The PNG file.
    """
    every = [confusion_matrix(labels, of, labels=range(len(classes))) for of in predicted.values()]
    shown = most_confused(sum(every), CONFUSED) if len(classes) > LABELLED else np.arange(len(classes))
    count, names = len(shown), [short(classes[index]) for index in shown]
    side = max(3.2, min(0.7 * count, 7.5 if count <= NUMBERED else 10.0) + 1.4)
    with panels(path, list(predicted), (side + 0.4, side), sharey=True) as axes:
        for ax, of_all in zip(axes, every, strict=True):
            counts = of_all[np.ix_(shown, shown)]
            share = counts / np.maximum(of_all[shown].sum(1, keepdims=True), 1)
            picture = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
            for (row, column), number in np.ndenumerate(counts) if count <= NUMBERED else ():
                if number or count <= MANY:
                    shade = "white" if share[row, column] > 0.55 else "black"
                    ax.text(column, row, number, ha="center", va="center", color=shade)
            slanted = {"rotation": 35, "ha": "right"} if count <= MANY else {"rotation": 90}
            ax.set_xticks(range(count), names, **slanted)
            ax.set_yticks(range(count), names)
            ax.tick_params(labelsize=9 if count <= NUMBERED else 7)
            ax.set_xlabel("predicted")
            ax.grid(visible=False)
        axes[0].set_ylabel("actual")
        if count < len(classes):
            axes[0].figure.suptitle(f"the {count} of {len(classes):,} classes with the most frequent mistakes")
        plt.colorbar(picture, ax=list(axes), label="share of the actual class", shrink=0.8)


def most_confused(counts: np.ndarray, number: int) -> np.ndarray:
    """About `number` classes, ascending: those of the most frequent mistakes in a confusion matrix, int64 (K, K)."""
    mistakes = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-mistakes, axis=None, kind="stable")[: number**2]
    pairs = np.column_stack(np.unravel_index(order, counts.shape)).ravel()
    first = np.sort(np.unique(pairs, return_index=True)[1])[:number]  # where each class comes for the first time
    return np.sort(pairs[first])


def roc(curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], path: str | Path) -> None:
    """A ROC curve per model and class. `curves` maps title -> class -> (false positive rates, true positive rates).

    Of many classes, only those with the least area under the curve are coloured and named, for each model its own.
    """
    classes = len(next(iter(curves.values())))
    with panels(path, list(curves), (4.0, 3.8 if classes <= DISTINCT else 4.9), sharey=True) as axes:
        for ax, by_class in zip(axes, curves.values(), strict=True):
            weakest = sorted(by_class, key=lambda label: float(np.trapezoid(*by_class[label][::-1])))[: len(COLOURS)]
            named = list(by_class) if classes <= DISTINCT else weakest
            for label in (label for label in by_class if label not in named):
                ax.plot(*by_class[label], color="#bbbbbb", linewidth=0.7, drawstyle="steps-post")
            for label, (colour, line) in zip(named, colours_and_lines(), strict=False):
                ax.plot(*by_class[label], line, color=colour, label=short(label), drawstyle="steps-post")
            ax.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
            ax.set_xlabel("false positive rate")
            ax.set_aspect("equal")
            if classes > DISTINCT:
                title = f"the {len(named)} classes with the least area; grey: {classes - len(named)} others"
                below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "borderaxespad": 0}
                ax.legend(title=title, ncols=2, fontsize=7, title_fontsize=7, **below)
        axes[0].set_ylabel("true positive rate")
        if classes <= DISTINCT:
            handles, labels = axes[0].get_legend_handles_labels()
            legend_below(axes[0].figure, handles, labels, "class against the rest")


def reliability(tables: Mapping[str, tuple[Bins, Bins]], path: str | Path) -> None:
    """Accuracy against confidence, of each model with its temperature and, dashed, without it."""
    with panels(path, ["Reliability (area: images in the bin)"], (4.6, 4.2)) as (ax,):
        ax.plot([0, 1], [0, 1], ":", color="grey", label="as sure as right")
        for colour, marker, (title, of_model) in zip(cycle(COLOURS), cycle(MARKERS), tables.items(), strict=False):
            (x, y, counts), (raw_x, raw_y, _) = (
                [np.array(of) for of in zip(*table, strict=True)] for table in of_model
            )
            ax.plot(x, y, color=colour, linewidth=1)
            ax.scatter(x, y, 300 * counts / counts.sum() + 4, color=colour, marker=marker, alpha=0.7, label=title)
            ax.plot(raw_x, raw_y, "--", color=colour, linewidth=1, alpha=0.7, label=f"{title}, not calibrated")
        ax.set_xlabel("confidence: probability of the predicted class")
        ax.set_ylabel("accuracy: share that is right")
        ax.set_xlim(0, 1.02)
        ax.set_ylim(0, 1.02)
        legend_below(ax.figure, *ax.get_legend_handles_labels())
        for handle in ax.figure.legends[0].legend_handles:
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
        legend_below(ax.figure, *ax.get_legend_handles_labels())


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
