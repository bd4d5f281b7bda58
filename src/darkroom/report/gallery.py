"""The images of the results page: which are shown, what each model says about them, and where its reasons lie."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from PIL import Image

from darkroom.data.images import resized
from darkroom.data.manifest import Row, path_in_side
from darkroom.inference import locate, overlays, predictor
from darkroom.networks import checkpoint
from darkroom.pages.thumbnails import as_uri, thumbnails
from darkroom.results import images
from darkroom.results.revision import Revision, table
from darkroom.results.suspects import Suspect
from darkroom.system import lock
from darkroom.system.errors import UserError

BYTES = 5_500_000  # of all thumbnails, so that a page stays below 10 MB
MOST = 6000  # thumbnails, so that a page is written in seconds
MISTAKES, HITS = (
    400,
    100,
)  # of each model, which come first: its surest mistakes, and the hits of which it is least sure
MAPPED = 3000  # images of the map at most
PAIRS, SUSPECTS = 40, 100  # look-alikes and suspects that are shown
HEATED = {"mistakes": 12, "hits": 6}  # of each model, that have a heat map: a second for ten
HEAT_SIDE = 160  # pixels

Key = tuple[str, str]  # an image: its side, and its path in it


@dataclass(frozen=True)
class Gallery:
    """The images of a page.

    Attributes:
        rows: The images that have a thumbnail.
        thumbs: Their thumbnails, as `data:` URIs.
        wanted: The number of images that would have one if there were room.
        data: What the page's script needs: see page/page.js.
    """

    rows: list[Row]
    thumbs: list[str]
    wanted: int
    data: dict[str, Any]


def of_revision(revision: Revision, suspects: Sequence[Suspect]) -> Gallery:
    """The images of the page on `revision`; those that matter most come first, in case there is no room for all."""
    rows = {(row.split, path_in_side(row)): row for row in revision.manifest if not row.reason}
    points = table(revision, "plots/tsne.csv")
    wanted = list(dict.fromkeys(filter(rows.__contains__, _by_interest(revision, points, suspects))))
    thumbs = thumbnails([rows[key] for key in wanted[:MOST]], revision.commit, BYTES)
    shown = [rows[key] for key in wanted[: len(thumbs)]]
    index = {key: number for number, key in enumerate(wanted[: len(thumbs)])}
    classes = revision.predictions.classes
    suggested = {one.path: one.suggested for one in suspects if one.suspect}
    data = {
        "classes": classes,
        "models": [{"name": name, "title": title} for name, title in revision.titles.items()],
        "images": [
            [row.path, _class_index(classes, row.label), row.split, suggested.get(row.path, "")] for row in shown
        ],
        "thumbs": thumbs,
        "predictions": _predictions(revision, index),
        "map": _map(revision, points, index),
    }
    return Gallery(shown, thumbs, len(wanted), data)


def _class_index(classes: Sequence[str], label: str) -> int:
    return int(np.searchsorted(classes, label))


def _by_interest(revision: Revision, points: Sequence[dict[str, str]], suspects: Sequence[Suspect]) -> Iterator[Key]:
    """The images that a page can show, the most interesting first. Some come more than once."""
    tested = [("test", path) for path in revision.predictions.paths]
    orders = [(mistakes(revision, model), least_sure_hits(revision, model)) for model in revision.titles]
    of_models = [[*wrong[:MISTAKES], *hits[:HITS]] for wrong, hits in orders]
    yield from (tested[i] for i in chain(*zip_longest(*of_models)) if i is not None)
    raw = {row.path: (row.split, path_in_side(row)) for row in revision.manifest if not row.reason}
    for pair in table(revision, "plots/near_duplicates.csv")[:PAIRS]:
        yield from (raw[path] for path in (pair.get("first"), pair.get("second")) if path in raw)
    yield from (raw[one.path] for one in suspects[:SUSPECTS] if one.path in raw)
    yield from ((point["split"], point["path"]) for point in points[: MAPPED * len(revision.titles)])
    yield from tested


def mistakes(revision: Revision, model: str) -> np.ndarray:
    """The test images about which a model is wrong, the surest mistake first: indices, int64."""
    of_model = revision.predictions.said[model]
    wrong = np.flatnonzero(of_model.predicted != revision.predictions.labels)
    return wrong[np.argsort(-of_model.confidence[wrong], kind="stable")]


def least_sure_hits(revision: Revision, model: str) -> np.ndarray:
    """The test images about which a model is right, the least sure first: indices, int64."""
    of_model = revision.predictions.said[model]
    right = np.flatnonzero(of_model.predicted == revision.predictions.labels)
    return right[np.argsort(of_model.confidence[right], kind="stable")]


def _predictions(revision: Revision, index: dict[Key, int]) -> dict[str, list[list[float]]]:
    """Of each model, for each test image with a thumbnail: its number, the class predicted, its probability, the label's."""
    shown = [(at, index["test", path]) for at, path in enumerate(revision.predictions.paths) if ("test", path) in index]
    return {
        model: [
            [number, int(of.predicted[at]), round(float(of.confidence[at]), 4), round(float(of.of_label[at]), 4)]
            for at, number in shown
        ]
        for model, of in revision.predictions.said.items()
    }


def _map(revision: Revision, points: Iterable[dict[str, str]], index: dict[Key, int]) -> dict[str, list[list[float]]]:
    """Of each model, for each image with a thumbnail: its number and its place in the map."""
    found: dict[str, list[list[float]]] = {model: [] for model in revision.titles}
    for point in points:
        number = index.get((point["split"], point["path"]))
        if number is not None and point["model"] in found:
            found[point["model"]].append([number, float(point["x"]), float(point["y"])])
    return found


def heat_maps(revision: Revision, shown: Sequence[Row]) -> tuple[dict[str, dict[int, str]], list[str]]:
    """Where the reasons of each model's surest mistakes and least sure hits lie.

    Returns:
        Model -> number of the image in `shown` -> a picture as `data:` URI; and a sentence for each model that has none.
    """
    found: dict[str, dict[int, str]] = {}
    notes = []
    index = {path_in_side(row): number for number, row in enumerate(shown) if row.split == "test"}
    for model, title in revision.titles.items():
        chosen = [*mistakes(revision, model)[: HEATED["mistakes"]], *least_sure_hits(revision, model)[: HEATED["hits"]]]
        numbers = [index[revision.predictions.paths[at]] for at in chosen if revision.predictions.paths[at] in index]
        try:
            found[model] = dict(zip(numbers, _heated(revision, model, [shown[n] for n in numbers]), strict=True))
        except UserError as error:
            notes.append(f"The {title} model has no heat maps here: {error}.")
    return found, notes


def _heated(revision: Revision, model: str, rows: Sequence[Row]) -> list[str]:
    """The heat maps of a model for the class that it predicts for each image.

    Raises:
        UserError: The model of these results cannot be had, or cannot be explained.
    """
    if not rows:
        return []
    with locate.model_file(model, revision.commit) as file:
        made = lock.outs(revision.lock[checkpoint.stage(model)])[str(checkpoint.path(model))]
        if not file.exists() or hashlib.md5(file.read_bytes()).hexdigest() != made:
            raise UserError(f"{checkpoint.path(model)} is not the model of these results: get it by `dvc checkout`")
        asked = predictor.load(file)
    assert asked.explainer is not None  # a checkpoint has one
    explain = asked.explainer()
    pixels = np.stack([resized(images.fetch(row, revision.commit), asked.resolution) for row in rows])
    at = {path: number for number, path in enumerate(revision.predictions.paths)}
    predicted = revision.predictions.said[model].predicted
    classes = predicted[[at[path_in_side(row)] for row in rows]]
    heat = explain(pixels, classes)
    return [
        as_uri(Image.open(io.BytesIO(overlays.overlay(image, of))).convert("RGB"), HEAT_SIDE)
        for image, of in zip(pixels, heat, strict=True)
    ]
