"""fastai's `fine_tune` with our backbone and weights, with a look at the test images after each epoch.

    python fast_ai_to_accuracy.py SEED EPOCHS LR SPREAD RESOLUTION FLIPS [SIDE]

In a project whose split is built. Prints what ours_to_accuracy.py prints, without val. If FLIPS is 1, it is trained with the
mirror images that ours is trained with, and predictions are averaged over them. SIDE is the side of the split to look at: test,
or val to choose EPOCHS, LR and SPREAD (fastai's lr_mult) by.
"""

import sys
import time

STARTED = time.time()

import json  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from fastai.vision.all import (  # noqa: E402
    Callback,
    CrossEntropyLossFlat,
    Dihedral,
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    ResizeMethod,
    create_head,
    get_image_files,
    params,
    set_seed,
)

from conditions import BATCH, either_flip, merged_accuracy, pretrained_backbone  # noqa: E402

SEED, EPOCHS, LR, SPREAD = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
RESOLUTION, FLIPS, SIDE = int(sys.argv[5]), sys.argv[6] == "1", (*sys.argv[7:], "test")[0]
set_seed(SEED)
MIRRORS: list[list[int]] = [[], [2], [3], [2, 3]] if FLIPS else [[]]  # axes to flip


class Clock(Callback):  # type: ignore[misc]
    """After each epoch, with the clock stopped, prints the accuracy on SIDE."""

    looking = 0.0  # seconds

    def after_epoch(self) -> None:
        """Look."""
        began = time.time()
        model = self.learn.model.eval()
        probabilities, labels = [], []
        with torch.inference_mode():
            for images, of_batch in looked_at:
                views = [model(images.flip(axes) if axes else images).softmax(1) for axes in MIRRORS]
                probabilities.append(torch.stack([torch.as_tensor(view) for view in views]).mean(0))
                labels.append(torch.as_tensor(of_batch))
        accuracy = merged_accuracy(torch.cat(probabilities).numpy(), torch.cat(labels).numpy(), list(self.dls.vocab))
        print(json.dumps({"seconds": began - STARTED - self.looking, "accuracy": accuracy}), flush=True)
        Clock.looking += time.time() - began


loaders = ImageDataLoaders.from_folder(
    "data/split",
    train="train",
    valid="val",
    bs=BATCH,
    num_workers=2,
    item_tfms=Resize(RESOLUTION, method=ResizeMethod.Squish),
    batch_tfms=[*([Dihedral(draw=either_flip)] if FLIPS else []), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
)
looked_at = loaders.test_dl(get_image_files(Path("data/split", SIDE)), with_labels=True, num_workers=0)
body, width = pretrained_backbone()
body.global_pool = torch.nn.Identity()  # fastai's head pools
network = torch.nn.Sequential(body, create_head(width, len(loaders.vocab)))
learner = Learner(
    loaders, network, loss_func=CrossEntropyLossFlat(), splitter=lambda model: [params(part) for part in model], wd=0.05
)
with learner.no_bar(), learner.no_logging():
    learner.fine_tune(EPOCHS, LR, lr_mult=SPREAD, cbs=Clock())
