"""Are images that are nothing of what was trained on told from the test images?

    .venv-bench/bin/python benchmarks/unknown.py

In the project, whose models must be built. AUROC of telling test images from others: photos of scikit-learn and scikit-image,
whole and in quarters, and, which is easy, scikit-learn's digits, characters and noise. The baselines are one minus the highest
probability, and the energy score (Liu et al. 2020).
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from scipy.special import logsumexp
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

import common
import datasets
from darkroom.data.images import list_images, load_folder, open_rgb, resized
from darkroom.data.layout import SPLIT
from darkroom.evaluation import conformal
from darkroom.networks import checkpoint, forward, registry
from darkroom.networks.calibration import calibrated, unlikeness
from darkroom.system import params

# Those that scikit-image brings with it; the others would have to be downloaded.
PHOTOS = [
    "astronaut",
    "brick",
    "camera",
    "cat",
    "chelsea",
    "clock",
    "coffee",
    "coins",
    "colorwheel",
    "grass",
    "gravel",
    "horse",
    "hubble_deep_field",
    "immunohistochemistry",
    "logo",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
]
SOME = 200  # of digits and characters
NOISE = 50


def main() -> None:
    """Print the table, and write it to unknown.md."""
    options = common.parser(__doc__).parse_args()
    run = params.load("run", params.Run)
    others = {
        "photos": photos(),
        "digits": characters("digits"),
        "characters": characters("typefaces"),
        "noise": noise(),
    }
    rows = [row for name in params.models() for row in rows_of(name, others, run)]
    counts = ", ".join(f"{len(images)} {name}" for name, images in others.items())
    header = [
        "model",
        "by",
        *(f"AUROC {name}" for name in others),
        *(f"refused {name}" for name in others),
        "refused test",
    ]
    common.publish(
        f"{counts}. Refused: beyond the threshold of val, above which at most 1 % of images like it are expected.\n\n"
        f"{common.table(header, rows, text=(0, 1))}\n`.venv-bench/bin/python benchmarks/unknown.py`\n",
        options.results / "unknown.md",
    )


def rows_of(name: str, others: dict[str, list[Image.Image]], run: params.Run) -> Iterator[list[str]]:
    """A row per score of the model `name`."""
    model = registry.load(checkpoint.path(name))
    known = model.calibration
    test = load_folder(SPLIT / "test", model.about.resolution, 2000, model.about.classes).pixels
    sides = {"test": test} | {
        side: np.stack([resized(image, model.about.resolution) for image in images]) for side, images in others.items()
    }
    seen = {side: forward.look(model.network, pixels, model.about, run) for side, pixels in sides.items()}
    scores = {
        "unlikeness": {side: unlikeness(features, known.space).numpy() for side, (_, features) in seen.items()},
        "1 - highest probability": {
            side: 1 - calibrated(logits, known.temperature).numpy().max(1) for side, (logits, _) in seen.items()
        },
        "energy": {side: -logsumexp(logits.numpy(), -1).mean(0) for side, (logits, _) in seen.items()},
    }
    limit = conformal.too_unlike(known.unlikeness.numpy())
    for score, by_side in scores.items():
        refused = [
            f"{(by_side[side] > limit).mean():.1%}" if score == "unlikeness" else "" for side in [*others, "test"]
        ]
        yield [model.about.title, score, *(f"{auroc(by_side['test'], by_side[side]):.3f}" for side in others), *refused]


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """The probability that an unknown image scores higher than a known one."""
    labels = np.repeat([0, 1], [len(known), len(unknown)])
    return float(roc_auc_score(labels, np.concatenate([known, unknown])))


def photos() -> list[Image.Image]:
    """Each photo, and its quarters."""
    whole = [Image.fromarray(array) for array in load_sample_images().images]
    for name in PHOTOS:
        array = np.asarray(getattr(skimage.data, name)())
        whole.append(Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == bool else array).convert("RGB"))
    quarters = [
        image.crop(
            (x * image.width // 2, y * image.height // 2, (x + 1) * image.width // 2, (y + 1) * image.height // 2)
        )
        for image in whole
        for x in (0, 1)
        for y in (0, 1)
    ]
    return whole + quarters


def characters(name: str) -> list[Image.Image]:
    """Some images of a data set of datasets.py."""
    with tempfile.TemporaryDirectory() as folder:
        datasets.lay_out(name, Path(folder))
        paths = list_images(folder)
        return [open_rgb(Path(folder) / path) for path in paths[:: len(paths) // SOME][:SOME]]


def noise() -> list[Image.Image]:
    """Each pixel of a colour of its own."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (160, 160, 3), dtype=np.uint8)) for _ in range(NOISE)]


if __name__ == "__main__":
    main()
