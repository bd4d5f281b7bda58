"""Stage tsne: what the two models see, in two dimensions."""

from typing import Annotated

import numpy as np
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from darkroom import checkpoint, figures, files, params
from darkroom.errors import UserError
from darkroom.images import list_images, load_folder
from darkroom.inference import predict

COMPONENTS = 50  # van der Maaten and Hinton 2008 reduce to 30, most since to 50: noise goes, neighbours stay


class Params(params.Section):
    """Section `tsne` of params.yaml."""

    perplexity: Annotated[float, Field(ge=1)]
    max_images: Annotated[int, Field(ge=10)]


def main() -> None:
    """Read both models, train and test; write where each image lies, as CSV and as a picture."""
    choices = params.load("tsne", Params)
    run = params.load("run", params.Run)
    chosen = choose({side: list_images(f"data/split/{side}") for side in ("train", "test")}, choices.max_images)
    rows: list[figures.Point] = []
    for name, path in checkpoint.MODELS.items():
        model, about = checkpoint.load(path)
        features, marks = [], []
        for side, paths in chosen.items():
            folder = load_folder(f"data/split/{side}", about.resolution, about.classes, paths)
            features.append(predict(model.backbone, folder.pixels, about))
            marks += [
                (about.classes[label], side, path) for label, path in zip(folder.labels, folder.paths, strict=True)
            ]
        places = embed(np.concatenate(features), choices.perplexity, run.seed)
        rows += [figures.Point(name, *mark, float(x), float(y)) for mark, (x, y) in zip(marks, places, strict=True)]
    files.write_csv("plots/tsne.csv", ("model", "class", "split", "path", "x", "y"), rows)
    figures.tsne(rows, "plots/tsne.png")


def choose(paths: dict[str, list[str]], limit: int) -> dict[str, list[str]]:
    """At most `limit` of all images, by the hashes of their paths: a few images more or less change few of the chosen."""
    ranked = sorted(
        (files.sha256(path.encode("utf-8", "surrogateescape")), side, path) for side in paths for path in paths[side]
    )
    kept = ranked[:limit]
    return {side: sorted(path for _, own, path in kept if own == side) for side in paths}


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
    # How the sums are shared among threads changes their rounding, and t-SNE amplifies it: one thread.
    with threadpool_limits(1):
        reduced = PCA(components, svd_solver="full").fit_transform(features.astype(np.float64))
        places: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(reduced)
    return places
