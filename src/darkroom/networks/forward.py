"""The forward pass that evaluate, tsne and the trainings share: from pixels to logits and features."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import Classifier
from darkroom.system import device, parallel, workers
from darkroom.system.params import Run

BATCH = 16  # images per pass; the maps of more do not fit into the CPU's caches, which is slower
ON_GPU = 256  # images per pass there; fewer leave it idle
AXES = {"horizontal": 3, "vertical": 2}  # of (N, C, H, W)


def as_tensor(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W), 0 to 255, in channels-last memory order."""
    return pixels.permute(0, 3, 1, 2).float()


def normalised(pixels: Tensor, about: About) -> Tensor:
    """float32 (N, 3, H, W), 0 to 255, normalised by the mean and std of the model."""
    scale = torch.tensor([about.mean, about.std]).to(pixels.device, non_blocking=True)  # else a GPU would be waited for
    mean, std = scale.view(2, 1, 3, 1, 1)
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def views(about: About) -> list[tuple[int, ...]]:
    """The axes to flip in each view that is averaged; the first is (), the image itself."""
    axes = [AXES[name] for name in about.flips]
    return [chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count)]


def predict(model: torch.nn.Module, pixels: np.ndarray, about: About, run: Run) -> np.ndarray:
    """The output of `model` for each image, in evaluation mode: float32 (N, outputs).

    A Classifier gives logits, its backbone gives features.
    """
    model.to(device.choose(run)).eval()
    return _outputs(model, pixels, about, run, [()])[0].numpy()


def look(model: Classifier, pixels: np.ndarray, about: About, run: Run) -> tuple[Tensor, Tensor]:
    """All that a model says about images: the logits of each of their `views`, float32 (views, N, K), and the features (N, D)."""
    model.to(device.choose(run)).eval()

    def both(images: Tensor) -> Tensor:
        features = model.backbone(images)
        return torch.cat([model.head(features).float(), features.float()], 1)

    outputs = _outputs(both, pixels, about, run, views(about))
    classes = model.head.out_features
    return outputs[:, :, :classes], outputs[0, :, classes:]


def _outputs(
    network: Callable[[Tensor], Tensor], pixels: np.ndarray, about: About, run: Run, flips: Sequence[tuple[int, ...]]
) -> Tensor:
    """The output of `network` for each image in each of the views `flips`: float32 (views, N, outputs), on the CPU.

    The workers of a training share the passes. Where `run.threads` leave cores idle, several passes are made at a time.
    """
    size = ON_GPU if run.device == "cuda" else BATCH
    passes = [(flip, start) for flip in flips for start in range(0, len(pixels), size)]

    def output(at: int) -> Tensor:
        flip, start = passes[at]
        with torch.inference_mode(), device.precision(run):  # both hold for one thread
            rows = network(as_input(pixels[start : start + size], about, run, flip)).float()
        return functional.pad(rows, (0, 0, 0, size - len(rows)))

    # A worker without a pass makes the first one again, so that it knows how many columns there are.
    mine = workers.share(len(passes)) or [0]
    outputs = torch.stack(list(parallel.in_threads(output, mine, threads(run))))
    every = workers.joined(outputs, len(passes)).cpu()
    return every.view(len(flips), -1, every.shape[-1])[:, : len(pixels)]


def threads(run: Run) -> int:
    """How many passes are made at a time."""
    if run.device == "cuda" or workers.count() > 1:
        return 1
    return max(1, parallel.cores() // run.threads)


def batches(pixels: np.ndarray, about: About, run: Run, flip: tuple[int, ...] = ()) -> Iterator[Tensor]:
    """The input of the network, `BATCH` images at a time. `flip` is one of `views`."""
    for start in range(0, len(pixels), BATCH):
        yield as_input(pixels[start : start + BATCH], about, run, flip)


def as_input(pixels: np.ndarray, about: About, run: Run, flip: tuple[int, ...] = ()) -> Tensor:
    """uint8 (N, H, W, 3) as the input of the network. `flip` is one of `views`."""
    images = as_tensor(torch.from_numpy(pixels).to(device.choose(run)))
    return normalised(images.flip(flip) if flip else images, about)


def score(
    model: torch.nn.Module, pixels: np.ndarray, labels: np.ndarray, about: About, run: Run
) -> tuple[float, float]:
    """Mean cross-entropy, in nats, and accuracy on images with known labels, int64 (N,)."""
    logits, actual = torch.from_numpy(predict(model, pixels, about, run)), torch.from_numpy(labels)
    return functional.cross_entropy(logits, actual).item(), (logits.argmax(1) == actual).double().mean().item()
