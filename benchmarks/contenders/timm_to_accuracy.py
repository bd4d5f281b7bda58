"""timm's train script with our backbone and weights, and the accuracy on the test images after each epoch.

    python timm_to_accuracy.py SCRIPT SEED EPOCHS LR DECAY RESOLUTION FLIPS [SIDE]

In a project whose split is built. SCRIPT is train.py of timm's repository, which its package lacks. Prints what
fast_ai_to_accuracy.py prints. DECAY is the share of the learning rate of a layer that the layer before it has. The script saves a
checkpoint after each epoch; they are looked at when it has ended, and its clock is the time at which it saved them.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch
from torchvision import datasets
from torchvision.transforms import v2

from conditions import BACKBONE, BATCH, merged_accuracy
from darkroom.networks.weights import load_pretrained

SCRIPT, SEED, EPOCHS, LR, DECAY = sys.argv[1:6]
RESOLUTION, FLIPS, SIDE = int(sys.argv[6]), sys.argv[7] == "1", (*sys.argv[8:], "test")[0]
CLASSES = sorted(folder.name for folder in Path("data/split/train").iterdir())
OPTIONS = {
    "data-dir": "data/split",
    "train-split": "train",
    "val-split": "val",
    "model": BACKBONE,
    "num-classes": len(CLASSES),
    "img-size": RESOLUTION,
    "crop-pct": 1.0,
    "batch-size": BATCH,
    "workers": 2,
    "device": "cpu",
    "seed": SEED,
    "epochs": EPOCHS,
    "warmup-epochs": 1,
    "opt": "adamw",
    "weight-decay": 0.05,
    "lr": LR,
    "layer-decay": DECAY,
    "hflip": 0.5 if FLIPS else 0,
    "vflip": 0.5 if FLIPS else 0,
    "color-jitter": 0,
    "train-interpolation": "bilinear",
    "checkpoint-hist": EPOCHS,
    "experiment": "bench",
}
SWITCHES = ["--pretrained", "--channels-last", "--sched-on-updates", "--scale", "1", "1", "--ratio", "1", "1"]


def main() -> None:
    """Train, then look at each checkpoint."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.save(load_pretrained(BACKBONE, "default").model.state_dict(), folder / "weights.pth")
        words = [f"--{key}={value}" for key, value in OPTIONS.items()]
        paths = [f"--pretrained-path={folder / 'weights.pth'}", f"--output={folder}"]
        started = time.time()
        done = subprocess.run(
            [sys.executable, SCRIPT, *words, *SWITCHES, *paths], check=False, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        looked_at = datasets.ImageFolder(f"data/split/{SIDE}", transform())
        batches = torch.utils.data.DataLoader(looked_at, BATCH)
        checkpoints = sorted((folder / "bench").glob("checkpoint-*.pth.tar"), key=number)
        for checkpoint in checkpoints:
            row = {"seconds": checkpoint.stat().st_mtime - started, "accuracy": accuracy(checkpoint, batches)}
            print(json.dumps(row), flush=True)


def number(checkpoint: Path) -> int:
    """The number of its epoch."""
    return int(re.findall(r"\d+", checkpoint.name)[0])


def transform() -> v2.Compose:
    """The preprocessing that the script has for val, but for the size: images are squashed, as ours are."""
    size = (RESOLUTION, RESOLUTION)
    return v2.Compose(
        [
            v2.Resize(size, v2.InterpolationMode.BICUBIC),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )


def accuracy(checkpoint: Path, batches: torch.utils.data.DataLoader) -> float:  # type: ignore[type-arg]
    """That of predictions that are averaged over the mirror images."""
    model = timm.create_model(BACKBONE, num_classes=len(CLASSES), checkpoint_path=str(checkpoint)).eval()
    mirrors: list[list[int]] = [[], [2], [3], [2, 3]] if FLIPS else [[]]  # axes to flip
    found, labels = [], []
    with torch.inference_mode():
        for images, of_batch in batches:
            views = [model(images.flip(axes) if axes else images).softmax(1) for axes in mirrors]
            found.append(torch.stack(views).mean(0))
            labels.append(of_batch)
    return merged_accuracy(torch.cat(found).numpy(), torch.cat(labels).numpy(), CLASSES)


main()
