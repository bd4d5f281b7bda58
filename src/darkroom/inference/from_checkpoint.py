"""The model of a checkpoint, computed by torch."""

from pathlib import Path

import numpy as np

from darkroom.inference import settings
from darkroom.inference.predictor import Explain, Predictor
from darkroom.networks import forward, registry
from darkroom.networks.calibration import calibrated, unlikeness


def load(path: Path) -> Predictor:
    """The model of a checkpoint.

    Raises:
        UserError: The file is missing, or is no checkpoint of Darkroom's.
    """
    return of_model(registry.load(path))


def of_model(model: registry.Model) -> Predictor:
    """The model that `registry.load` gave."""
    known = model.calibration

    def answer(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, features = forward.look(model.network, pixels, model.about, settings.RUN)
        return calibrated(logits, known.temperature).numpy().round(6), unlikeness(features, known.space).numpy()

    def explainer() -> Explain:
        from darkroom.inference import explain  # only needed if somebody asks why

        return explain.of_model(model)

    of_val = known.scores.numpy(), known.labels.numpy(), known.unlikeness.numpy()
    return Predictor(
        model.about.title, model.about.classes, model.about.resolution, of_val, answer, explainer=explainer
    )
