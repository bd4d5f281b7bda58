"""The stage train_finetune, with a look at the test images after each epoch.

    python ours_to_accuracy.py

In a project whose split is built. Prints a line of JSON per epoch: the seconds since the start of the process, without
those that the looks took, and the accuracy on test and on val.
"""

import time

STARTED = time.time()

import json  # noqa: E402
from functools import cache  # noqa: E402
from typing import cast  # noqa: E402

from darkroom.system import determinism, params  # noqa: E402

RUN = params.load("run", params.Run)
determinism.prepare(RUN)

from conditions import merged_accuracy  # noqa: E402
from darkroom.data.images import Folder, load_folder  # noqa: E402
from darkroom.data.layout import SPLIT  # noqa: E402
from darkroom.networks import forward  # noqa: E402
from darkroom.networks.calibration import calibrated  # noqa: E402
from darkroom.networks.classifier import Classifier  # noqa: E402
from darkroom.stages import train_finetune  # noqa: E402
from darkroom.training import loop, resume  # noqa: E402
from darkroom.training.history import Epoch  # noqa: E402

run_epoch = loop.run_epoch
looking = 0.0  # seconds


@cache
def test_images(resolution: int) -> Folder:
    """The test images, decoded once."""
    return load_folder(SPLIT / "test", resolution, params.load("images", params.Images).memory)


def run_epoch_and_look(learner: loop.Learner, task: loop.Task, number: int) -> Epoch:
    """Run the epoch as the stage does. Then, with the clock stopped, print the accuracy on test, averaged over mirror images."""
    global looking
    epoch = run_epoch(learner, task, number)
    began = time.time()
    test = test_images(task.about.resolution)
    logits, _ = forward.look(cast(Classifier, learner.scored), test.pixels, task.about, task.run)
    probabilities = calibrated(logits, 1.0).numpy()
    row = {
        "seconds": began - STARTED - looking,
        "accuracy": merged_accuracy(probabilities, test.labels, test.classes),
        "val": epoch.val_accuracy,
    }
    print(json.dumps(row), flush=True)
    looking += time.time() - began
    return epoch


loop.run_epoch = run_epoch_and_look
for state in resume.FOLDER.glob("train_finetune.*"):
    state.unlink()  # this run would go on from an earlier one's state
train_finetune.main()
