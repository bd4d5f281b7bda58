"""The bare training step: forward, backward and AdamW on one tensor that is ready, channels last. Nothing is read.

    python ceiling.py FOLDER MODEL MODE [--batch 32] [--resolution 128] [--device cpu] [--precision float32]

Threads, kernels (MODE: portable or native) and memory are set as for `ours`. FOLDER is not used. Prints images a second.
"""

import argparse
import time

from darkroom.system import determinism
from darkroom.system.params import Run

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("model")
parser.add_argument("mode")
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--resolution", type=int, default=128)
parser.add_argument("--device", default="cpu")
parser.add_argument("--precision", default="float32")
OPTIONS = parser.parse_args()
RUN = Run.model_validate(
    {
        "seed": 1,
        "threads": 2,
        "shards": 4,
        "mode": OPTIONS.mode,
        "device": OPTIONS.device,
        "precision": OPTIONS.precision,
    }
)
determinism.prepare(RUN)

import torch  # noqa: E402

from conditions import STEPS, WARM_UP, network  # noqa: E402
from darkroom.system import device  # noqa: E402

CLASSES = 4

where = device.choose(RUN)
model = network(OPTIONS.model, CLASSES).to(where).to(memory_format=torch.channels_last).train()
images = torch.randn(OPTIONS.batch, 3, OPTIONS.resolution, OPTIONS.resolution, device=where)
images = images.contiguous(memory_format=torch.channels_last)
labels = torch.arange(OPTIONS.batch, device=where) % CLASSES
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def train(steps: int) -> float:
    """Take so many steps, and return the last loss: the GPU has then done them all."""
    for _ in range(steps):
        with device.precision(RUN):
            logits = model(images).float()
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


train(WARM_UP)
started = time.perf_counter()
train(STEPS)
print(STEPS * OPTIONS.batch / (time.perf_counter() - started))
