"""Stage tsne: the features of each model, in two dimensions."""

from collections.abc import Iterator
from functools import cache
from typing import Annotated

import numpy as np
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from darkroom.data.images import Folder, list_images, load_folder
from darkroom.data.layout import SPLIT
from darkroom.networks import checkpoint, forward, registry
from darkroom.pictures import tsne as pictures
from darkroom.system import files, params
from darkroom.system.errors import UserError
from darkroom.system.parallel import in_threads

COMPONENTS = 50  # van der Maaten and Hinton 2008 reduce to 30, most since to 50: noise goes, neighbours stay


class Params(params.Section):
    """Section `tsne` of params.yaml."""

    perplexity: Annotated[float, Field(ge=1)]
    max_images: Annotated[int, Field(ge=10)]


def main() -> None:
    """Read the models, train and test; write the position of each image, as CSV and as a chart."""
    choices = params.load("tsne", Params)
    run = params.load("run", params.Run)
    chosen = choose({side: list_images(SPLIT / side) for side in ("train", "test")}, choices.max_images)
    names, titles, features = zip(*features_of_models(chosen, run), strict=True)
    # One thread per model: sums that are shared among threads round differently.
    perplexity = fitting(choices.perplexity, len(features[0]))
    with threadpool_limits(1):
        maps = list(in_threads(lambda of_model: embed(of_model, perplexity, run.seed), features))
    images = [(path.split("/", 1)[0], side, path) for side, paths in chosen.items() for path in paths]
    points = [
        pictures.Point(name, *image, float(x), float(y))
        for name, positions in zip(names, maps, strict=True)
        for image, (x, y) in zip(images, positions, strict=True)
    ]
    files.write_csv("plots/tsne.csv", ("model", "class", "split", "path", "x", "y"), points)
    title = dict(zip(names, titles, strict=True))
    pictures.tsne([point._replace(model=title[point.model]) for point in points], "plots/tsne.png")


def features_of_models(chosen: dict[str, list[str]], run: params.Run) -> Iterator[tuple[str, str, np.ndarray]]:
    """The name, the title and the features, float32 (N, width), of each model, for the images `chosen` of each side."""
    memory = params.load("images", params.Images).memory

    @cache  # most models look at the same pixels
    def decoded(side: str, resolution: int, classes: tuple[str, ...]) -> Folder:
        return load_folder(SPLIT / side, resolution, memory, list(classes), chosen[side])

    for name in params.models():
        checkpoint.check_provenance(name, run)
        model = registry.load(checkpoint.path(name))
        about = model.about
        sides = [decoded(side, about.resolution, tuple(about.classes)) for side in chosen]
        features = [forward.predict(model.network.backbone, side.pixels, about, run) for side in sides]
        yield name, about.title, np.concatenate(features)


def choose(paths: dict[str, list[str]], limit: int) -> dict[str, list[str]]:
    """At most `limit` of all images, by the hashes of their paths: a few images more or less change few of the chosen.

    Raises:
        UserError: There are none.
    """
    ranked = sorted(
        (files.sha256(path.encode("utf-8", "surrogateescape")), side, path) for side in paths for path in paths[side]
    )
    if not ranked:
        raise UserError(f"{SPLIT} holds no images: run `dvc repro split` first")
    kept = ranked[:limit]
    chosen = {side: sorted(path for _, kept_side, path in kept if kept_side == side) for side in paths}
    return {side: of_side for side, of_side in chosen.items() if of_side}


def fitting(perplexity: float, images: int) -> float:
    """A perplexity that so many images allow: it must be less than their number. Says so if it is another one."""
    if perplexity < images:
        return perplexity
    lower = (images - 1) / 3
    print(f"the perplexity is {lower:g} instead of {perplexity:g}, because there are {images} images")
    return lower


def embed(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Barnes-Hut t-SNE (van der Maaten 2014) of the first principal components, by scikit-learn.

    Args:
        features: float32 (N, width).
        perplexity: Roughly the number of neighbours that count for each point; less than N.
        seed: Seeds the few random draws that remain when the first two components are the start.

    Returns:
        float32 (N, 2).
    """
    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, svd_solver="full").fit_transform(features.astype(np.float64))
    positions: np.ndarray = TSNE(
        perplexity=perplexity, init="pca" if components > 1 else "random", random_state=seed, n_jobs=1
    ).fit_transform(reduced)
    return positions
