"""fastai as in its book: ImageDataLoaders, item and batch transforms, Learner.

    python fast_ai.py FOLDER MODEL

Prints images a second of training batches, without validation.
"""

import sys
import time

import torch
from fastai.vision.all import (
    Callback,
    CancelFitException,
    CrossEntropyLossFlat,
    Dihedral,
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    ResizeMethod,
)

from conditions import BATCH, RESOLUTION, STEPS, WARM_UP, either_flip, network

FOLDER, MODEL = sys.argv[1:]
torch.set_num_threads(2)


class Clock(Callback):  # type: ignore[misc]
    """Times the batches after the warm-up, then stops the training."""

    def after_batch(self) -> None:
        """Start or stop the clock."""
        if self.iter + 1 == WARM_UP:
            self.started = time.perf_counter()
        elif self.iter + 1 == WARM_UP + STEPS:
            print(STEPS * BATCH / (time.perf_counter() - self.started))
            raise CancelFitException


loaders = ImageDataLoaders.from_folder(
    FOLDER,
    valid_pct=0.02,
    seed=1,
    bs=BATCH,
    num_workers=2,
    item_tfms=Resize(RESOLUTION, method=ResizeMethod.Squish),
    batch_tfms=[Dihedral(draw=either_flip), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
)
learner = Learner(loaders, network(MODEL, len(loaders.vocab)), loss_func=CrossEntropyLossFlat())
with learner.no_bar(), learner.no_logging():
    learner.fit(1, 1e-3, cbs=Clock())
