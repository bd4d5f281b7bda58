"""What a pretrained network sees in each image. Kept in .darkroom/, so that an image is computed once, whatever its label."""

import io
import math
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm import tqdm

from darkroom.data import archives
from darkroom.data.images import file_in, open_rgb, resized
from darkroom.data.layout import SPLIT
from darkroom.data.manifest import Row, path_in_side
from darkroom.networks import backbones, forward
from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import check
from darkroom.networks.weights import Pretrained, fingerprint, load_pretrained, with_new_head
from darkroom.stages.train_finetune import Params
from darkroom.system import files, params, pins
from darkroom.system.errors import UserError
from darkroom.system.parallel import in_threads

FOLDER = Path(".darkroom/features")
CHUNK = 512  # images in memory at a time, and in a file
COMPONENTS = 256  # at most; see docs/decisions/0008-seeing-and-mending.md


def of_images(rows: Sequence[Row], run: params.Run) -> np.ndarray:
    """The `components` of what the pretrained backbone gives for images of the split: float32 (N, at most `COMPONENTS`).

    The backbone is that of `train_finetune`, with its published weights. It has seen no label of the project.

    Raises:
        UserError: The weights cannot be had, or an image of the split is missing or is not that of the manifest.
    """
    choices, resolution = params.load("train_finetune", Params), params.load("images", params.Images).resolution
    backbones.check_pooling(choices.backbone, choices.pooling)  # before anything is downloaded or decoded
    pretrained = load_pretrained(choices.backbone, choices.weights, choices.fingerprint)
    folder = FOLDER / _key(pretrained, choices, resolution)
    path_of = {row.sha256: file_in(SPLIT / row.split, path_in_side(row)) for row in rows}
    known = {sha256 for names, _ in _stored(folder) for sha256 in names}
    if missing := sorted(path_of.keys() - known):
        backbone, about = _backbone(pretrained, choices, resolution)
        for at in tqdm(range(0, len(missing), CHUNK), "features", disable=None, leave=False):
            some = missing[at : at + CHUNK]
            pixels = np.stack(list(in_threads(lambda sha256: _pixels(path_of[sha256], sha256, resolution), some)))
            _write(folder, some, forward.predict(backbone, pixels, about, run))
    return components(_collect(folder, [row.sha256 for row in rows]))


def components(features: np.ndarray) -> np.ndarray:
    """The principal components, float32 (N, at most `COMPONENTS`), of features, float32 (N, D), which are overwritten.

    Each feature is scaled to a standard deviation of 1 / sqrt(D), so that the mean square length of a row is 1 before.
    """
    scaled = StandardScaler(copy=False).fit_transform(features) / math.sqrt(features.shape[1])
    count = min(COMPONENTS, *scaled.shape)
    with threadpool_limits(1):  # sums would differ by the number of threads
        found: np.ndarray = PCA(count, random_state=0).fit_transform(scaled)
    return found


def _key(pretrained: Pretrained, choices: Params, resolution: int) -> str:
    """16 digits that change with all that decides the features of an image."""
    parts = (choices.backbone, choices.pooling, resolution, pretrained.mean, pretrained.std)
    versions = {**pins.read("data"), **pins.read("models")}
    return files.sha256(repr((fingerprint(pretrained.model), parts, sorted(versions.items()))).encode())[:16]


def _backbone(pretrained: Pretrained, choices: Params, resolution: int) -> tuple[nn.Module, About]:
    """The network without its head, and how its input is made."""
    about = About(
        title="",
        architecture=choices.backbone,
        options={},
        classes=[],
        resolution=resolution,
        flips=[],
        mean=pretrained.mean,
        std=pretrained.std,
        curves=False,
    )
    model = with_new_head(pretrained, choices.backbone, 2, choices.pooling, 0.0)
    check(model, resolution, "set train_finetune.pooling to average, choose another train_finetune.backbone")
    return model.backbone, about


def _pixels(path: Path, sha256: str, resolution: int) -> np.ndarray:
    """The image at `path` as uint8 (resolution, resolution, 3).

    Raises:
        UserError: It is missing, is not the image with this SHA-256, or cannot be decoded.
    """
    try:
        data = archives.read(path)
        if files.sha256(data) != sha256:
            raise ValueError("it is another image than data/manifest.csv lists")
        return resized(open_rgb(io.BytesIO(data)), resolution)
    except (OSError, SyntaxError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{str(path)!r} cannot be used ({reason}): run `dvc repro split`") from None


def _read(file: Path) -> tuple[list[str], np.ndarray]:
    """The SHA-256 and the features, float32 (M, D), of the images in a file that `_write` wrote."""
    with np.load(file, allow_pickle=False) as content:
        names, features = content["sha256"].tolist(), content["features"]
    if features.shape[:-1] != (len(names),):
        raise ValueError("not one row for each image")
    return names, features


def _stored(folder: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    """What each file of the folder holds. A damaged file is removed, so that its images are computed again."""
    for file in sorted(folder.glob("*.npz")):
        try:
            yield _read(file)
        except (BadZipFile, EOFError, KeyError, NotImplementedError, ValueError, zlib.error):
            file.unlink(missing_ok=True)


def _write(folder: Path, sha256: Sequence[str], features: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, sha256=np.array(sha256), features=features)
    files.write_bytes(folder / f"{files.sha256(''.join(sha256).encode())[:16]}.npz", buffer.getvalue())


def _collect(folder: Path, sha256: Sequence[str]) -> np.ndarray:
    """The features of the images, float32 (N, D), in the order of `sha256`, in which an image may occur twice."""
    places = defaultdict(list)
    for place, name in enumerate(sha256):
        places[name].append(place)
    found = None
    for names, features in _stored(folder):
        found = np.empty((len(sha256), features.shape[1]), np.float32) if found is None else found
        for name, row in zip(names, features, strict=True):
            found[places[name]] = row  # images that data/raw no longer has are in no place
    assert found is not None
    return found
