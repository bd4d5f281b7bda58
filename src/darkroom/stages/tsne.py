"""Stage tsne: what the two models see, in two dimensions."""

from functools import cache
from typing import Annotated

import numpy as np
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from darkroom.data.images import Folder, list_images, load_folder
from darkroom.data.layout import SPLIT
from darkroom.evaluation.titles import MODELS
from darkroom.networks import checkpoint, registry
from darkroom.networks.forward import predict
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
    """Read both models, train and test; write where each image lies, as CSV and as a picture."""
    choices = params.load("tsne", Params)
    run = params.load("run", params.Run)
    memory = params.load("images", params.Images).memory
    chosen = choose({side: list_images(SPLIT / side) for side in ("train", "test")}, choices.max_images)
    marks = [(path.split("/", 1)[0], side, path) for side, paths in chosen.items() for path in paths]

    @cache  # both models as a rule look at the same pixels
    def decoded(side: str, resolution: int, classes: tuple[str, ...]) -> Folder:
        return load_folder(SPLIT / side, resolution, memory, list(classes), chosen[side])

    features = []
    for path in checkpoint.MODELS.values():
        model, about = registry.load(path)
        folders = [decoded(side, about.resolution, tuple(about.classes)) for side in chosen]
        features.append(np.concatenate([predict(model.backbone, own.pixels, about, run) for own in folders]))
    # One thread a model: how the sums of one are shared among threads would change their rounding.
    with threadpool_limits(1):
        embedded = in_threads(lambda own: embed(own, choices.perplexity, run.seed), features)
        rows = [
            pictures.Point(name, *mark, float(x), float(y))
            for name, places in zip(checkpoint.MODELS, embedded, strict=True)
            for mark, (x, y) in zip(marks, places, strict=True)
        ]
    files.write_csv("plots/tsne.csv", ("model", "class", "split", "path", "x", "y"), rows)
    pictures.tsne([row._replace(model=MODELS[row.model]) for row in rows], "plots/tsne.png")


def choose(paths: dict[str, list[str]], limit: int) -> dict[str, list[str]]:
    """At most `limit` of all images, by the hashes of their paths: a few images more or less change few of the chosen.

    Raises:
        UserError: There are none.
    """
    ranked = sorted(
        (files.sha256(path.encode("utf-8", "surrogateescape")), side, path) for side in paths for path in paths[side]
    )
    if not ranked:
        raise UserError("data/split holds no images: run `dvc repro split` first")
    kept = ranked[:limit]
    chosen = {side: sorted(path for _, own, path in kept if own == side) for side in paths}
    return {side: own for side, own in chosen.items() if own}


def embed(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Barnes-Hut t-SNE (van der Maaten 2014) of the first principal components, as scikit-learn has it.

    Args:
        features: float32 (N, width).
        perplexity: About how many neighbours each point looks at; less than N.
        seed: Of the few draws that are left when the start is the first two components.

    Returns:
        float32 (N, 2).

    Raises:
        UserError: The perplexity is too high for so few images.
    """
    if perplexity >= len(features):
        raise UserError(
            f"tsne.perplexity in params.yaml is {perplexity:g}, but there are {len(features)} images: make it less"
        )
    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, svd_solver="full").fit_transform(features.astype(np.float64))
    places: np.ndarray = TSNE(
        perplexity=perplexity, init="pca" if components > 1 else "random", random_state=seed, n_jobs=1
    ).fit_transform(reduced)
    return places
