"""The bare forward pass on tensors that are ready, channels last, with the kernels and batches of `darkroom predict`.

    python forward_pass.py CHECKPOINT FOLDER

FOLDER is not used. Prints passes a second.
"""

import sys
import time
from pathlib import Path

from darkroom.inference import settings
from darkroom.system import determinism

determinism.prepare(settings.RUN)

import torch  # noqa: E402

from darkroom.networks import forward, registry  # noqa: E402

WARM_UP, STEPS = 10, 150  # batches

model = registry.load(Path(sys.argv[1]))
side = model.about.resolution
images = torch.randn(forward.BATCH, 3, side, side).contiguous(memory_format=torch.channels_last)


def passes(steps: int) -> None:
    """So many forward passes."""
    for _ in range(steps):
        model.network(images)


with torch.inference_mode():
    passes(WARM_UP)
    started = time.perf_counter()
    passes(STEPS)
print(STEPS * forward.BATCH / (time.perf_counter() - started))
