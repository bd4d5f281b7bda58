"""Are altered copies of test images found in train: by the difference hash, and by features of the pretrained backbone?

    python benchmarks/siblings.py [--siblings 60]

A quarter of each data set is test. Altered copies (siblings) of some test images come into train. A method gives each pair of a
test image and a train image a distance, and reports the pairs below a threshold. A reported pair is right if they are siblings.
Images that resemble each other by nature count as wrong, so that the precision is a lower bound.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from tqdm import tqdm

import common
import datasets
from darkroom.data import images, survey
from darkroom.networks.weights import load_pretrained

BITS = 10  # the default of split.near_duplicate
RESOLUTION = 160  # the default of images.resolution
PRECISION = 0.9  # of the features, at the threshold that is best for each set
ALTERED: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "saved again, 70 % of the size": lambda image, _: scaled(image, 0.7),
    "other brightness and contrast": lambda image, random: recoloured(image, random),
    "cropped to 80 % of the side": lambda image, random: cropped(image, 0.8, random),
    "cropped to 60 % of the side": lambda image, random: cropped(image, 0.6, random),
}


def main() -> None:
    """Print the table, and write it to siblings.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--siblings", type=int, default=60)
    options = parser.parse_args()
    rows = [row for name in ("demo", "digits", "typefaces") for row in rows_of(name, options.siblings)]
    header = ["data", "siblings", "hash: recall", "precision", "features: recall", "precision", "threshold"]
    common.publish(
        f"{options.siblings} siblings of test images in train. Hash: at most {BITS} of 256 bits. Features: 1 - cosine of the "
        f"centred, averaged features of tf_efficientnet_lite0 at {RESOLUTION} px, with the threshold that gives the highest "
        f"recall at a precision of at least {PRECISION} on that very set and kind.\n\n{common.table(header, rows, text=(0, 1))}\n"
        "`python benchmarks/siblings.py`\n",
        options.results / "siblings.md",
    )


def scaled(image: Image.Image, share: float) -> Image.Image:
    """Resized, as one does for a web page."""
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)


def recoloured(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Brightness and contrast changed by up to 30 %."""
    brighter = ImageEnhance.Brightness(image).enhance(random.uniform(0.7, 1.3))
    return ImageEnhance.Contrast(brighter).enhance(random.uniform(0.7, 1.3))


def cropped(image: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """A random part with this share of each side."""
    width, height = round(image.width * share), round(image.height * share)
    left, top = (int(random.integers(0, rest + 1)) for rest in (image.width - width, image.height - height))
    return image.crop((left, top, left + width, top + height))


def rows_of(name: str, siblings: int) -> Iterator[list[str]]:
    """A row per kind of sibling."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        datasets.lay_out(name, raw)
        found = [images.open_rgb(raw / path) for path in images.list_images(raw)]
    order = random.permutation(len(found))
    test, train = ([found[index] for index in part] for part in np.split(order, [len(found) // 4]))
    features = [features_of(side) for side in (test, train)]
    hashes = [hashes_of(side) for side in (test, train)]
    for kind, alter in ALTERED.items():
        made = [alter(image, random) for image in test[:siblings]]
        by_hash = distances_of_hashes(hashes[0], np.vstack([hashes[1], hashes_of(made)]))
        by_feature = distances_of_features(features[0], np.vstack([features[1], features_of(made)]))
        right = np.zeros(by_hash.shape, bool)
        right[np.arange(siblings), len(train) + np.arange(siblings)] = True
        threshold = best_threshold(by_feature[right], by_feature[~right])
        cells = [*shares(by_hash <= BITS, right), *shares(by_feature <= threshold, right), f"{threshold:.3f}"]
        yield [name, kind, *cells]


def hashes_of(found: list[Image.Image]) -> np.ndarray:
    """The difference hashes, uint8 (N, 32)."""
    return np.array([np.frombuffer(survey.perceptual_hash(image), np.uint8) for image in found])


@torch.inference_mode()
def features_of(found: list[Image.Image]) -> np.ndarray:
    """Averaged features of the pretrained backbone, float32 (N, D)."""
    pretrained = load_pretrained("tf_efficientnet_lite0", "default")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (pretrained.mean, pretrained.std))
    model = pretrained.model.eval()
    parts = []
    for start in tqdm(range(0, len(found), 64), disable=None, leave=False):
        pixels = np.stack([images.resized(image, RESOLUTION) for image in found[start : start + 64]])
        batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
        parts.append(model.forward_features(batch).mean((2, 3)).numpy())  # type: ignore[operator]
    return np.concatenate(parts)


def distances_of_hashes(test: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Bits in which the hashes differ, int (T, N)."""
    return np.array([np.bitwise_count(one ^ train).sum(1) for one in test])


def distances_of_features(test: np.ndarray, train: np.ndarray) -> np.ndarray:
    """1 - cosine, float (T, N). Without centring, all pairs would have a cosine close to 1."""
    sides = [side - train.mean(0) for side in (test, train)]
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    return 1 - units[0] @ units[1].T


def best_threshold(siblings: np.ndarray, others: np.ndarray) -> float:
    """The largest distance of a sibling at which the precision is at least `PRECISION`; 0 if there is none."""
    ordered = np.sort(siblings)
    right = np.arange(1, len(ordered) + 1)
    wrong = np.searchsorted(np.sort(others), ordered, "right")
    good = right / (right + wrong) >= PRECISION
    return float(ordered[good].max(initial=0.0))


def shares(reported: np.ndarray, right: np.ndarray) -> tuple[str, str]:
    """Recall and precision of the reported pairs."""
    hits, all_reported = int((reported & right).sum()), int(reported.sum())
    return f"{hits / right.sum():.0%}", f"{hits / all_reported:.0%}" if all_reported else ""


if __name__ == "__main__":
    main()
