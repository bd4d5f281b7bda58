"""The bare training step: forward, backward and AdamW on one tensor that is ready, channels last. Nothing is read.

    python ceiling.py FOLDER MODEL MODE

In the surroundings of `ours`: threads, the kernels of MODE, freed memory kept. Prints images a second.
"""

import sys
import time

from darkroom.system import determinism
from darkroom.system.params import Run

_, MODEL, MODE = sys.argv[1:]
determinism.prepare(Run(seed=1, threads=2, mode=MODE, device="cpu", precision="float32"))  # type: ignore[arg-type]

import torch  # noqa: E402
from common import BATCH, IMAGES, RESOLUTION, WARM_UP, network  # noqa: E402

model = network(MODEL, 4).to(memory_format=torch.channels_last).train()
images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION).contiguous(memory_format=torch.channels_last)
labels = torch.arange(BATCH) % 4
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def step() -> None:
    """One step."""
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


for _ in range(WARM_UP):
    step()
started = time.perf_counter()
for _ in range(IMAGES // BATCH):
    step()
print(IMAGES / (time.perf_counter() - started))
