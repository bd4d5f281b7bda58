"""What a page shows of the results of a revision: figures of classes, confusion, and the charts of dvc.yaml."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from darkroom.data import groups
from darkroom.evaluation import metrics, per_class
from darkroom.pages import charts
from darkroom.pages.charts import Chart, Rows
from darkroom.results import revision as revisions
from darkroom.results.revision import Revision
from darkroom.system import pipeline

MATRIX = 30  # classes; with more, the most frequent mistakes are listed instead of a matrix
CURVES = 20  # classes of the charts of ROC and recall, those with the lowest recall
POINTS = 200  # of a ROC curve
LARGEST = 40  # classes of the chart of counts
SIZES = 2500  # of images; more are rounded
MISTAKES = 40  # pairs of classes that are listed
# Where the plots of dvc.yaml stand, by the start of their path. The page draws those in None itself.
PLACES = {
    "data/manifest.csv": "data-set",
    "plots/image_sizes.csv": "data-set",
    "plots/train_": "training",
    "plots/per_class.csv": "errors",
    "plots/predictions.csv": None,
    "plots/near_duplicates.csv": None,
    "plots/tsne.csv": None,
    "plots/": "trust",
}

OfModels = Mapping[str, per_class.Classes]  # by the name of the model


def classes(revision: Revision) -> OfModels:
    """What each model does with each class of the test images."""
    found = revision.predictions
    units = groups.units(found.groups)
    return {
        model: metrics.per_class(found.labels, of.predicted, units, found.classes) for model, of in found.said.items()
    }


def by_recall(revision: Revision, of_models: OfModels) -> list[str]:
    """The classes: those with enough test images to be judged, then those with few, then those with none; the weakest first."""

    def rank(label: str) -> tuple[int, float, str]:
        of_class = [of[label] for of in of_models.values()]
        support = of_class[0].test_images
        return (support < per_class.FEW) + (support == 0), sum(of.recall or 0.0 for of in of_class), label

    return sorted(revision.predictions.classes, key=rank)


def confused_pairs(counts: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """The (actual, predicted, number of images) of the most frequent mistakes."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, counts.shape)
    return [(int(i), int(j), int(wrong[i, j])) for i, j in zip(rows, columns, strict=True) if wrong[i, j]]


def confusion_table(revision: Revision, model: str, place: Callable[[int, int], str]) -> dict[str, Any]:
    """The rows of a model's confusion matrix, or its most frequent mistakes if there are many classes, for a template.

    `place` gives the link to the images of a class (its number) that are taken for another one.
    """
    labels = revision.predictions.classes
    found = revision.predictions
    predicted = found.said[model].predicted
    # How many images of each class (row) are taken for each class (column).
    counts = confusion_matrix(found.labels, predicted, labels=range(len(labels)))
    if len(labels) > MATRIX:
        pairs = [
            {"actual": labels[i], "predicted": labels[j], "count": images, "link": place(i, j)}
            for i, j, images in confused_pairs(counts, MISTAKES)
        ]
        return {"title": revision.titles[model], "rows": [], "pairs": pairs}
    rows = [
        {
            "label": label,
            "cells": [
                {
                    "count": int(images),
                    "share": round(float(images / max(1, counts[i].sum())), 3),
                    "hit": i == j,
                    "predicted": labels[j],
                    "link": place(i, j),
                }
                for j, images in enumerate(counts[i])
            ],
        }
        for i, label in enumerate(labels)
    ]
    return {"title": revision.titles[model], "rows": rows, "pairs": []}


def charts_of(revision: Revision, of_models: OfModels) -> dict[str, list[Chart]]:
    """The charts of the plots in dvc.yaml, by section. `of_models`: what `classes` gives."""
    ranked = by_recall(revision, of_models)
    listed = charts.plots(pipeline.stages())
    found: dict[str, list[Chart]] = {place: [] for place in PLACES.values() if place}
    curves: list[dict[str, str]] = []
    for path, about in listed.items():
        place = next((place for start, place in PLACES.items() if path.startswith(start)), "trust")
        rows = _titled(revision, revisions.table(revision, path))
        if path.startswith("plots/train_"):  # all models in one chart, told apart as DVC tells revisions apart
            model = path.removeprefix("plots/train_").removesuffix(".csv")
            curves += [{**row, "rev": revision.titles.get(model, model)} for row in rows]
        elif place and rows:
            found[place] += charts.charts(*_bounded(path, about, rows, ranked))
    if curves:
        about = next(of for path, of in listed.items() if path.startswith("plots/train_"))
        found["training"] = charts.curves(about, curves)
    return found


def _titled(revision: Revision, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The rows, with the models' titles for their names."""
    return [
        {**row, "model": revision.titles.get(row["model"], row["model"])} if "model" in row else row for row in rows
    ]


def _bounded(path: str, about: Mapping[str, str], rows: Rows, ranked: Sequence[str]) -> tuple[dict[str, str], Rows]:
    """The entry of a plot and its rows, for a page that stays small: of many classes, sizes or points only a part."""
    about = dict(about)
    if path == "data/manifest.csv":
        largest = [
            label for label, _ in Counter(row["label"] for row in rows if not row["reason"]).most_common(LARGEST)
        ]
        counts = Counter((row["label"], row["split"]) for row in rows if row["label"] in set(largest))
        if len({row["label"] for row in rows if not row["reason"]}) > LARGEST:
            about["title"] += f" (the {LARGEST} largest)"
        return about, [{"label": label, "split": split, "count": str(n)} for (label, split), n in counts.items()]
    if path == "plots/image_sizes.csv" and len(rows) > SIZES:
        return _rounded(about, rows)
    if rows and "class" in rows[0]:
        present = {row["class"] for row in rows}  # in roc.csv not all of them
        weakest = set([label for label in ranked if label in present][:CURVES])
        if present - weakest:
            about["title"] += f" (the {CURVES} weakest)"
        rows = [row for row in rows if row["class"] in weakest]
    return about, _thinned(rows) if path == "plots/roc.csv" else rows


def _rounded(about: dict[str, str], rows: Rows) -> tuple[dict[str, str], Rows]:
    """The sizes of images, rounded so that at most `SIZES` remain."""
    sides = [(int(row["width"]), int(row["height"]), int(row["count"])) for row in rows]
    step = math.ceil(max(max(width, height) for width, height, _ in sides) / (math.isqrt(SIZES) - 1))
    counts: Counter[tuple[int, int]] = Counter()
    for width, height, count in sides:
        counts[round(width / step) * step, round(height / step) * step] += count
    about["title"] += f", rounded to {step} pixels"
    return about, [{"width": str(w), "height": str(h), "count": str(n)} for (w, h), n in sorted(counts.items())]


def _thinned(rows: Rows) -> Rows:
    """The points of ROC curves, at most `POINTS` of each, its ends among them."""
    curves: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        curves.setdefault((row["model"], row["class"]), []).append(row)
    return [
        curve[at]
        for curve in curves.values()
        for at in np.unique(np.linspace(0, len(curve) - 1, min(POINTS, len(curve))).round().astype(int)).tolist()
    ]
