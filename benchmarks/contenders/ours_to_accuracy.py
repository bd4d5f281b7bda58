"""The stage train_finetune as it is, looked at from outside after each epoch.

    python ours_to_accuracy.py SEED [KEY=VALUE ...]

With other values of params of train_finetune, or head=random, which leaves the head as it comes. In a project folder whose
split and stats are built. Prints, for each epoch, the seconds since the start of the process without those of this look at the
test side, and the accuracy there and on val: a row of JSON.
"""

import sys
import time

STARTED = time.time()

import json  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from darkroom import determinism, params  # noqa: E402

SEED, CHANGES = int(sys.argv[1]), dict(word.split("=") for word in sys.argv[2:])
RANDOM_HEAD = CHANGES.pop("head", "") == "random"
RUN = params.load("run", params.Run).model_copy(update={"seed": SEED})
determinism.prepare(RUN)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from common import merged_accuracy  # noqa: E402

from darkroom import frozen, train_finetune, training  # noqa: E402
from darkroom.images import load_folder  # noqa: E402
from darkroom.inference import views  # noqa: E402

load, above, score = params.load, frozen.above, training.score
looking = 0.0
test: list[Any] = []


def load_with_changes(name: str, model: Any) -> Any:
    """params.yaml, but for the seed and the changes."""
    changes = {key: json.loads(value) for key, value in CHANGES.items()} if name == "train_finetune" else {}
    return RUN if name == "run" else load(name, model).model_copy(update=changes)


def above_and_test(
    frozen: torch.nn.Module, folder: Any, flips: Any, how: Any, about: Any, run: Any, memory: int
) -> Any:
    """As the stage asks; once, the test side too, in each of its views."""
    global looking
    if not test:
        began = time.time()
        images = load_folder("data/split/test", about.resolution, memory)
        for flip in views(about):
            pixels = np.flip(images.pixels, [axis - 1 for axis in flip]).copy()  # (N, H, W, 3) here, (N, 3, H, W) there
            test.append(above(frozen, replace(images, pixels=pixels), [()], how, about, run, memory))
        test.append(images)
        looking += time.time() - began
    return above(frozen, folder, flips, how, about, run, memory)


def score_and_look(model: torch.nn.Module, data: Any, run: Any) -> tuple[float, float]:
    """As the stage scores val; then how well the test side goes, outside the clock."""
    global looking
    result = score(model, data, run)
    began = time.time()
    *shown, images = test
    chances = torch.stack([training.outputs(model, own, run).softmax(1) for own in shown]).mean(0)
    accuracy = merged_accuracy(chances.numpy(), images.labels, images.classes)
    row = {"seconds": began - STARTED - looking, "accuracy": accuracy, "val": result[1]}
    print(json.dumps(row), flush=True)
    looking += time.time() - began
    return result


params.load = load_with_changes
frozen.above = above_and_test
training.score = score_and_look
if RANDOM_HEAD:
    train_finetune.fit_head = lambda *_: None
Path(".darkroom/state/train_finetune.pt").unlink(missing_ok=True)
train_finetune.main()
