"""The bare training step: forward, backward and AdamW on one tensor that is ready, channels last. Nothing is read.

    python ceiling.py FOLDER MODEL MODE

Threads, kernels (MODE: portable or native) and memory are set as for `ours`. FOLDER is not used. Prints images a second.
"""

import sys
import time

from darkroom.system import determinism
from darkroom.system.params import Run

_, _, MODEL, MODE = sys.argv
determinism.prepare(
    Run.model_validate({"seed": 1, "threads": 2, "shards": 4, "mode": MODE, "device": "cpu", "precision": "float32"})
)

import torch  # noqa: E402

from conditions import BATCH, RESOLUTION, STEPS, WARM_UP, network  # noqa: E402

CLASSES = 4

model = network(MODEL, CLASSES).to(memory_format=torch.channels_last).train()
images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION).contiguous(memory_format=torch.channels_last)
labels = torch.arange(BATCH) % CLASSES
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def train(steps: int) -> None:
    """Take so many steps."""
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


train(WARM_UP)
started = time.perf_counter()
train(STEPS)
print(STEPS * BATCH / (time.perf_counter() - started))
