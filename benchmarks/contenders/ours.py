"""One epoch of Darkroom's loop; AdamW trains both networks, as in the other contenders.

    python ours.py FOLDER MODEL MODE MEMORY

The running average of the weights is part of it, where the stage has one. MEMORY is images.memory in MiB. Prints images a
second.
"""

import sys
import time
from pathlib import Path

from darkroom.system import determinism
from darkroom.system.params import Run

FOLDER, MODEL, MODE, MEMORY = sys.argv[1:]
RUN = Run(seed=1, threads=2, mode=MODE, device="cpu", precision="float32")  # type: ignore[arg-type]
determinism.prepare(RUN)

import torch  # noqa: E402
from common import BATCH, IMAGES, RESOLUTION, WARM_UP, network  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402

from darkroom.system import params  # noqa: E402
from darkroom.training import loop  # noqa: E402
from darkroom.networks.checkpoint import About  # noqa: E402
from darkroom.data.images import Folder, list_images, load_folder  # noqa: E402

every = list_images(FOLDER)
train = load_folder(FOLDER, RESOLUTION, int(MEMORY), paths=every[:: max(1, len(every) // IMAGES)][:IMAGES])
model = network(MODEL, len(train.classes)).to(memory_format=torch.channels_last)
section = params.read(Path("params.yaml"))["train_finetune" if MODEL == "lite0" else "train_scratch"]
own = {key: section[key] for key in loop.Recipe.model_fields} | {"batch_size": BATCH}
recipe = loop.Recipe.model_validate(own)
about = About(MODEL, {}, train.classes, RESOLUTION, [], [0.5] * 3, [0.5] * 3)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
averaged = None
if recipe.average:
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
loop.set_training(model, fixed_statistics=False)


def epoch(data: Folder, number: int) -> None:
    """As `training.fit` has it."""
    loop.train_epoch(model, averaged, optimizer, schedule, data, recipe, about, RUN, number)


few = slice(0, WARM_UP * BATCH)
epoch(Folder(train.pixels[few], train.labels[few], train.paths[few], train.classes), 1)
started = time.perf_counter()
epoch(train, 2)
print(len(train.labels) / (time.perf_counter() - started))
