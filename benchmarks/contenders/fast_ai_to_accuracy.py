"""fastai's `fine_tune` with our backbone and weights, looked at after each epoch.

    python fast_ai_to_accuracy.py SEED EPOCHS LR SPREAD RESOLUTION FLIPS [SIDE]

In a project folder whose split is built. Prints what ours_to_accuracy.py prints, but for val. Where FLIPS is 1, it is trained and
looked at in the same four views as ours. SIDE is what is looked at: test, or val to choose EPOCHS, LR and SPREAD (lr_mult) by.
"""

import sys
import time

STARTED = time.time()

import json  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from common import BATCH, either_flip, merged_accuracy  # noqa: E402
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

SEED, EPOCHS, LR, SPREAD = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
RESOLUTION, FLIPS, SIDE = int(sys.argv[5]), sys.argv[6] == "1", (*sys.argv[7:], "test")[0]
set_seed(SEED)
MIRRORS: list[list[int]] = [[], [2], [3], [2, 3]] if FLIPS else [[]]


def backbone() -> tuple[torch.nn.Module, int]:
    """Ours up to its last maps."""
    from darkroom.networks import models, weights

    net, features = models.without_head(weights.load_pretrained("tf_efficientnet_lite0", "default").model)
    net.global_pool = torch.nn.Identity()
    return net, features


class Clock(Callback):  # type: ignore[misc]
    """After each epoch, outside the clock, how well SIDE goes."""

    looking = 0.0

    def after_epoch(self) -> None:
        """Look."""
        began = time.time()
        model = self.learn.model.eval()
        chances, labels = [], []
        with torch.inference_mode():
            for images, own in test:
                shown = [model(images.flip(axes) if axes else images).softmax(1) for axes in MIRRORS]
                chances.append(torch.stack([torch.as_tensor(one) for one in shown]).mean(0))
                labels.append(torch.as_tensor(own))
        accuracy = merged_accuracy(torch.cat(chances).numpy(), torch.cat(labels).numpy(), list(self.dls.vocab))
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
test = loaders.test_dl(get_image_files(Path("data/split", SIDE)), with_labels=True, num_workers=0)
body, width = backbone()
network = torch.nn.Sequential(body, create_head(width, len(loaders.vocab)))
learner = Learner(
    loaders, network, loss_func=CrossEntropyLossFlat(), splitter=lambda model: [params(part) for part in model], wd=0.05
)
with learner.no_bar(), learner.no_logging():
    learner.fine_tune(EPOCHS, LR, lr_mult=SPREAD, cbs=Clock())
