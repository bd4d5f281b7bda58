"""What the models of experiments say about images that the experiments name: val images, or those that were held out.

They answer in a process of their own, in which torch is set up before anything imports NumPy. What is imported at the top of this
file must therefore import neither of them.
"""

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from darkroom.inference import settings
from darkroom.system import determinism
from darkroom.system.errors import UserError
from darkroom.system.process import end_with_parent

CHUNK = 256  # images that are decoded at a time


class Asked(NamedTuple):
    """A question: what the model `name` of the experiment `commit` says about the images that its manifest has on `side`."""

    commit: str
    name: str
    side: str


class Answers(NamedTuple):
    """What a model says about N images.

    Attributes:
        rows: N rows of the manifest.
        trained: The number of images that it was trained on.
        classes: Its K classes, which may lack the class of an image.
        probabilities: N x K, calibrated, rounded to six digits.
        losses: The N cross-entropies in nats of the image as it is, without the temperature, of which the mean is the val loss.
            NaN if the model does not know the class.
    """

    rows: list[Any]
    trained: int
    classes: list[str]
    probabilities: list[list[float]]
    losses: list[float]


def of(questions: Sequence[Asked]) -> list[Answers]:
    """The answers to the `questions`, in order.

    Raises:
        UserError: DVC's cache lacks a model or an image, a model is of an earlier version, or the process was killed.
    """
    try:
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
            return pool.submit(_all, list(questions)).result()
    except BrokenProcessPool:
        raise UserError(
            "the process that asks the models was killed, as one is that needs more memory than there is: free memory, and run "
            "the command again; finished runs are kept"
        ) from None


def _all(questions: Sequence[Asked]) -> list[Answers]:
    determinism.prepare(settings.RUN)
    return [_of_one(asked) for asked in questions]


def _of_one(asked: Asked) -> Answers:
    import numpy as np
    import torch

    from darkroom.data import manifest
    from darkroom.networks import checkpoint, forward, registry
    from darkroom.networks.calibration import calibrated

    every = manifest.read(asked.commit)
    rows = [row for row in every if row.split == asked.side]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pth"
        file.write_bytes(_read(asked.commit, str(checkpoint.path(asked.name))))
        model = registry.load(file)
    classes = model.about.classes
    probabilities, losses = [], []
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        pixels = _pixels(asked.commit, chunk, model.about.resolution)
        logits, _ = forward.look(model.network, pixels, model.about, settings.RUN)
        probabilities += calibrated(logits, model.calibration.temperature).numpy().round(6).tolist()
        logs = torch.nn.functional.log_softmax(logits[0].double(), 1).numpy()
        losses += [
            float(-log[classes.index(row.label)]) if row.label in classes else np.nan
            for row, log in zip(chunk, logs, strict=True)
        ]
    return Answers(rows, sum(row.split == "train" for row in every), classes, probabilities, losses)


def _pixels(commit: str, rows: Sequence[Any], resolution: int) -> Any:
    """The images of `rows` as they are in a commit: uint8 (N, resolution, resolution, 3)."""
    import io

    import numpy as np

    from darkroom.data.images import open_rgb, resized
    from darkroom.data.layout import RAW
    from darkroom.system.parallel import in_threads

    def decode(row: Any) -> Any:
        return resized(open_rgb(io.BytesIO(_read(commit, str(RAW / row.path)))), resolution)

    return np.stack(list(in_threads(decode, rows)))


def _read(commit: str, path: str) -> bytes:
    """A file that DVC tracks in a commit.

    Raises:
        UserError: DVC's cache lacks it.
    """
    from darkroom.results import images

    try:
        return images.content(path, commit)
    except Exception as error:  # DVC raises many kinds
        raise UserError(
            f"DVC's cache lacks {path} of {commit[:7]} ({error}): `dvc pull --all-commits` gets what a remote has"
        ) from None
