"""Inference as in fastai's book: Learner, dls.test_dl, get_preds.

    python fast_ai_predict.py CHECKPOINT FOLDER

Prints passes a second.
"""

import sys
import time
from pathlib import Path

import torch
from fastai.vision.all import (
    CrossEntropyLossFlat,
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    ResizeMethod,
    get_image_files,
)

from darkroom.networks import registry

BATCH, WORKERS, WARM_UP = 64, 2, 64
torch.set_num_threads(2)

model = registry.load(Path(sys.argv[1]))
loaders = ImageDataLoaders.from_folder(
    sys.argv[2],
    valid_pct=0.5,
    seed=1,
    bs=BATCH,
    num_workers=WORKERS,
    item_tfms=Resize(model.about.resolution, method=ResizeMethod.Squish),
    batch_tfms=[Normalize.from_stats(model.about.mean, model.about.std)],
)
learner = Learner(loaders, model.network, loss_func=CrossEntropyLossFlat())
files = get_image_files(sys.argv[2])
with learner.no_bar(), learner.no_logging():
    learner.get_preds(dl=loaders.test_dl(files[:WARM_UP]))
    started = time.perf_counter()
    probabilities, _ = learner.get_preds(dl=loaders.test_dl(files))
    print(len(probabilities) / (time.perf_counter() - started))
