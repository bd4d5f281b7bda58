"""The stage train_finetune as it is, looked at from outside after each epoch.

    python ours_to_accuracy.py SEED

In a project folder whose split and stats are built. Prints, for each epoch, the seconds since the start of the process without
those of this look at the test side, and the accuracy there and on val: a row of JSON.
"""

import sys
import time

STARTED = time.time()

import json  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from darkroom.system import determinism, params  # noqa: E402

RUN = params.load("run", params.Run).model_copy(update={"seed": int(sys.argv[1])})
determinism.prepare(RUN)

import torch  # noqa: E402
from common import merged_accuracy  # noqa: E402

from darkroom.stages import train_finetune  # noqa: E402
from darkroom.training import loop  # noqa: E402
from darkroom.networks.checkpoint import About  # noqa: E402
from darkroom.data.images import Folder, load_folder  # noqa: E402
from darkroom.networks.forward import predict, views  # noqa: E402

load, score = params.load, loop.score
looking = 0.0
test: list[Folder] = []


def load_with_seed(name: str, model: Any) -> Any:
    """params.yaml, but for the seed."""
    return RUN if name == "run" else load(name, model)


def score_and_look(model: torch.nn.Module, data: Folder, about: About, run: params.Run) -> tuple[float, float]:
    """As the stage scores val; then how well the test side goes, outside the clock."""
    global looking
    result = score(model, data, about, run)
    began = time.time()
    if not test:
        test.append(load_folder("data/split/test", about.resolution, load("images", params.Images).memory))
    images = test[0]
    logits = (torch.from_numpy(predict(model, images.pixels, about, run, flip)) for flip in views(about))
    chances = torch.stack([own.softmax(1) for own in logits]).mean(0)
    accuracy = merged_accuracy(chances.numpy(), images.labels, images.classes)
    row = {"seconds": began - STARTED - looking, "accuracy": accuracy, "val": result[1]}
    print(json.dumps(row), flush=True)
    looking += time.time() - began
    return result


params.load = load_with_seed
loop.score = score_and_look
Path(".darkroom/state/train_finetune.pt").unlink(missing_ok=True)
train_finetune.main()
