"""Plain PyTorch as its tutorials have it: ImageFolder, DataLoader with two workers, transforms image by image.

    python plain.py FOLDER MODEL

Prints images a second, from the moment that the loader's first batches are there.
"""

import sys
import time

import torch
from common import BATCH, IMAGES, RESOLUTION, WARM_UP, network
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

FOLDER, MODEL = sys.argv[1:3]
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

done, started = -WARM_UP * BATCH, 0.0
for images, labels in loader:
    if done == 0:
        started = time.perf_counter()
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    done += BATCH
    if done == IMAGES:
        break
print(IMAGES / (time.perf_counter() - started))
