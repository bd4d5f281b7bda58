"""Plain PyTorch as in its tutorials: ImageFolder, a DataLoader with two workers, transforms of one image at a time.

    python plain.py FOLDER MODEL

The clock starts after the first batches. Prints images a second.
"""

import sys
import time

import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from conditions import BATCH, RESOLUTION, STEPS, WARM_UP, network

FOLDER, MODEL = sys.argv[1:]
torch.set_num_threads(2)
transform = v2.Compose(
    [
        v2.Resize((RESOLUTION, RESOLUTION)),
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.5] * 3),
    ]
)
data = ImageFolder(FOLDER, transform)
loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=2, drop_last=True)
model = network(MODEL, len(data.classes)).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

started = 0.0
for step, (images, labels) in enumerate(loader):
    if step == WARM_UP:
        started = time.perf_counter()
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step + 1 == WARM_UP + STEPS:
        break
print(STEPS * BATCH / (time.perf_counter() - started))
