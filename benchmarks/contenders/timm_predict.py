"""Inference as timm's inference.py does it: create_dataset, create_loader, softmax, top-k.

    python timm_predict.py CHECKPOINT FOLDER

Prints passes a second.
"""

import sys
import time
from pathlib import Path

import torch
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader

from darkroom.networks import registry

BATCH, WORKERS, TOP = 64, 2, 5
torch.set_num_threads(2)

model = registry.load(Path(sys.argv[1]))
network = model.network.to(memory_format=torch.channels_last)
side, classes = model.about.resolution, len(model.about.classes)
loader = create_loader(
    create_dataset("", root=sys.argv[2]),
    (3, side, side),
    BATCH,
    use_prefetcher=False,
    interpolation="bilinear",
    mean=tuple(model.about.mean),
    std=tuple(model.about.std),
    num_workers=WORKERS,
    crop_pct=1.0,
    crop_mode="squash",
    device=torch.device("cpu"),
)


def probabilities() -> int:
    """The number of images whose probabilities were computed."""
    count = 0
    for images, _ in loader:
        output = network(images.contiguous(memory_format=torch.channels_last)).softmax(-1)
        count += len(output.topk(min(TOP, classes))[0].numpy())
    return count


with torch.inference_mode():
    network(torch.randn(BATCH, 3, side, side).contiguous(memory_format=torch.channels_last))  # warm-up
    started = time.perf_counter()
    print(probabilities() / (time.perf_counter() - started))
