"""A model that can be asked, whatever file it comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.inference.locate import EXPORTED

Explain = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Predictor:
    """A model and what one needs to know to use it.

    Attributes:
        title: What tables call it.
        classes: K class names.
        resolution: The side in pixels of the square input.
        known: scores, labels and unlikeness of val images, (V,) each: see `networks.calibration.Calibration`.
        answer: From pixels, uint8 (N, resolution, resolution, 3), to probabilities, float64 (N, K), and unlikeness, (N,).
        checkpoint_sha256: Of the checkpoint from which it was exported; "" if it is a checkpoint itself.
        explainer: Gives the function from pixels and N classes (indices, int64) to where in each image the reason lies, float32
            (N, resolution, resolution), 0 to 1. It raises UserError if this network cannot be explained. None: no network of
            this kind can.
    """

    title: str
    classes: list[str]
    resolution: int
    known: tuple[np.ndarray, np.ndarray, np.ndarray]
    answer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    checkpoint_sha256: str = ""
    explainer: Callable[[], Explain] | None = None


def load(path: Path) -> Predictor:
    """The model in a checkpoint, or in a file that `darkroom export` wrote. Only the former needs torch.

    Raises:
        UserError: The file is missing, or is none of Darkroom's.
    """
    if path.suffix == EXPORTED:
        from darkroom.inference import from_onnx

        return from_onnx.load(path)
    from darkroom.inference import from_checkpoint

    return from_checkpoint.load(path)
