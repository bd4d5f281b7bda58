"""An epoch of Darkroom's training loop. AdamW trains both networks, as in the other contenders.

    python ours.py FOLDER MODEL MODE MEMORY [--steps 20] [--epochs 1] [--shards 4] [--resolution 128] [--batch 32]
        [--device cpu] [--precision float32]

If the stage keeps a running average of the weights, so does this. MODE is portable or native, MEMORY is images.memory in MiB.
Prints "ready" after the warm-up, a digest of gradients of all later steps, the peak of the memory in MiB, and images a second.
"""

import argparse
import time
from dataclasses import replace

from darkroom.system import determinism, params, process
from darkroom.system.params import Run

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("model", choices=["lite0", "small"])
parser.add_argument("mode")
parser.add_argument("memory", type=int)
parser.add_argument("--steps", type=int, help="per epoch")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--shards", type=int, default=4)
parser.add_argument("--resolution", type=int, default=128)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--device", default="cpu")
parser.add_argument("--precision", default="float32")
OPTIONS = parser.parse_args()
SETTINGS = {
    "seed": 1,
    "threads": 2,
    "shards": OPTIONS.shards,
    "mode": OPTIONS.mode,
    "device": OPTIONS.device,
    "precision": OPTIONS.precision,
}
RUN = Run.model_validate(SETTINGS)
determinism.prepare(RUN)

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from conditions import STEPS, WARM_UP, network  # noqa: E402
from darkroom.data.images import Folder, list_images, load_folder  # noqa: E402
from darkroom.networks.checkpoint import About  # noqa: E402
from darkroom.system.files import sha256  # noqa: E402
from darkroom.training.loop import Learner, Task, train_epoch  # noqa: E402
from darkroom.training.recipe import Recipe  # noqa: E402


class Recorder(Learner):
    """A learner that keeps a number of each step's gradient."""

    def __init__(self, task: Task) -> None:
        torch.manual_seed(task.run.seed)  # of the head's weights
        model = network(OPTIONS.model, len(task.train.classes)).to(memory_format=torch.channels_last)
        super().__init__(model, torch.optim.AdamW(model.parameters(), lr=1e-3), task)
        self.kept: list[float] = []

    def step(self, gradient: Tensor) -> None:
        """Keep the gradient of a bias of the head, then change the weights."""
        self.kept.append(gradient[-1].item())
        super().step(gradient)


def load(count: int) -> Folder:
    """`count` images of the folder, spread over all its classes."""
    paths = list_images(OPTIONS.folder)
    chosen = paths[:: max(1, len(paths) // count)][:count]
    return load_folder(OPTIONS.folder, OPTIONS.resolution, OPTIONS.memory, paths=chosen)


def recipe() -> Recipe:
    """That of the stage that trains such a network, but for the batch size and a constant learning rate."""
    section = params.tree_of_params()["train_finetune" if OPTIONS.model == "lite0" else "train_scratch"]
    keys = {key: section[key] for key in Recipe.model_fields}
    return Recipe.model_validate(keys | {"batch_size": OPTIONS.batch, "schedule": "constant"})


def main() -> None:
    """Warm up, then train with the clock running."""
    images = load((OPTIONS.steps or STEPS) * OPTIONS.batch)
    first = slice(0, WARM_UP * OPTIONS.batch)
    few = Folder(images.pixels[first], images.labels[first], images.paths[first], images.classes)
    half = [0.5] * 3
    about = About(OPTIONS.model, OPTIONS.model, {}, images.classes, OPTIONS.resolution, [], half, half, curves=False)
    task = Task("benchmark", images, few, recipe(), about, RUN)
    learner = Recorder(task)
    train_epoch(learner, replace(task, train=few), 1)
    print("ready", flush=True)
    learner.kept.clear()
    started = time.perf_counter()
    for epoch in range(OPTIONS.epochs):
        train_epoch(learner, task, 2 + epoch)
    seconds = time.perf_counter() - started
    print(sha256(repr(learner.kept).encode()))
    print(process.peak_memory())
    print(OPTIONS.epochs * len(images.labels) / seconds)


main()
