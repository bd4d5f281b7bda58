"""A worker of Darkroom's training loop, and what its step is made of.

    python worker.py FOLDER RANK WORKERS MEETING [--batch 32] [--shards 4] [--threads 1] [--steps 12]

EfficientNet-Lite0 at 160 px with fixed BatchNorm statistics, as train_finetune has it. All workers join the group that meets in
the file MEETING. The first one prints JSON: the seconds of a shard, of the optimizer, of an exchange, and of a whole step
(medians), and the bytes of the vector that is exchanged.
"""

import argparse
import json
import time
from datetime import timedelta
from statistics import median

from darkroom.system import determinism
from darkroom.system.params import Run

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("rank", type=int)
parser.add_argument("workers", type=int)
parser.add_argument("meeting")
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--shards", type=int, default=4)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--steps", type=int, default=12)
OPTIONS = parser.parse_args()
RUN = Run.model_validate(
    {
        "seed": 1,
        "threads": OPTIONS.threads,
        "shards": OPTIONS.shards,
        "mode": "portable",
        "device": "cpu",
        "precision": "float32",
    }
)
determinism.prepare(RUN)

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch import distributed as dist  # noqa: E402

from conditions import network  # noqa: E402
from darkroom.data.images import list_images, load_folder  # noqa: E402
from darkroom.networks.checkpoint import About  # noqa: E402
from darkroom.system import params, workers  # noqa: E402
from darkroom.training.batch_norm import Statistics  # noqa: E402
from darkroom.training.loop import Learner, Task, train_epoch  # noqa: E402
from darkroom.training.recipe import Recipe  # noqa: E402

RESOLUTION = 160
TIMES: dict[str, list[float]] = {"shard": [], "rest": [], "exchange": [], "step": []}


class Timed(Learner):
    """A learner that notes how long its parts take."""

    began = 0.0

    def part(self, images: Tensor, labels: Tensor, of_batch: Tensor, running: Statistics) -> list[Tensor]:
        """Note the time of a shard."""
        started = time.perf_counter()
        made = super().part(images, labels, of_batch, running)
        TIMES["shard"].append(time.perf_counter() - started)
        return made

    def step(self, gradient: Tensor) -> None:
        """Note the time of what every worker does for itself, and of a whole step."""
        started = time.perf_counter()
        super().step(gradient)
        ended = time.perf_counter()
        TIMES["rest"].append(ended - started)
        TIMES["step"].append(ended - self.began)
        self.began = ended


def exchange(gradient: Tensor) -> None:
    """Note the time of an exchange of the vector of a step, when nothing else is done."""
    for _ in range(10):
        dist.barrier()
        started = time.perf_counter()
        workers.sum_of_all([gradient])
        TIMES["exchange"].append(time.perf_counter() - started)


def main() -> None:
    """Train a few steps, and print."""
    if OPTIONS.workers > 1:
        meeting = f"file://{OPTIONS.meeting}"
        dist.init_process_group("gloo", meeting, timedelta(minutes=5), OPTIONS.workers, OPTIONS.rank)
    paths = list_images(OPTIONS.folder)[:: max(1, 2624 // (OPTIONS.steps * OPTIONS.batch))]
    images = load_folder(OPTIONS.folder, RESOLUTION, 1000, paths=paths[: OPTIONS.steps * OPTIONS.batch])
    section = params.tree_of_params()["train_finetune"]
    recipe = Recipe.model_validate({key: section[key] for key in Recipe.model_fields} | {"batch_size": OPTIONS.batch})
    half = [0.5] * 3
    about = About("", "", {}, images.classes, RESOLUTION, [], half, half, curves=False)
    torch.manual_seed(RUN.seed)
    model = network("lite0", len(images.classes)).to(memory_format=torch.channels_last)
    task = Task("benchmark", images, images, recipe, about, RUN, fixed_statistics=True)
    learner = Timed(model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True), task)
    learner.began = time.perf_counter()
    train_epoch(learner, task, 1)
    if OPTIONS.workers > 1:
        exchange(torch.zeros_like(learner.gradient))
    if OPTIONS.rank == 0:
        medians = {name: median(values[2:]) if values else 0.0 for name, values in TIMES.items()}
        print(json.dumps({**medians, "bytes": learner.gradient.numel() * 4}))


main()
