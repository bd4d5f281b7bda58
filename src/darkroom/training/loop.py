"""The only epoch loop: both trainings run through it."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from darkroom.data.images import Folder
from darkroom.networks.checkpoint import About, plain
from darkroom.networks.classifier import Classifier
from darkroom.networks.forward import as_tensor, normalised, predict
from darkroom.system import device
from darkroom.system.device import made_by
from darkroom.system.errors import UserError
from darkroom.system.params import Count, LearningRate, Run, Section
from darkroom.training import resume
from darkroom.training.augmentation import DRAWS, Augment, augment


class Recipe(Section):
    """What both trainings let one choose. params.yaml gives the reason of each default."""

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]  # BatchNorm needs two
    lr: LearningRate
    weight_decay: Annotated[float, Field(ge=0, le=1000)]
    schedule: Literal["one_cycle", "cosine", "constant"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["none", "balanced"]
    average: Annotated[float, Field(ge=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    augment: Augment


@dataclass(frozen=True)
class Epoch:
    """One row of the curves. Losses are means over images, accuracies shares of images, `lr` is the last of the epoch, of a
    fine-tuning the backbone's."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float


def identity(model: Classifier, train: Folder, val: Folder, recipe: Recipe, about: About, run: Run) -> str:
    """A digest of all that decides how the training of `model` goes: a killed one goes on where this is the same."""
    start = b"".join(tensor.numpy().tobytes() for tensor in plain(model.state_dict()).values())
    settings = (recipe.model_dump(), asdict(about), run.model_dump(), made_by(run))
    return resume.key(*settings, start, train.pixels, train.labels, val.pixels, val.labels)


def fit(
    name: str,
    key: str,
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    train: Folder,
    val: Folder,
    recipe: Recipe,
    about: About,
    run: Run,
    fixed_statistics: bool = False,
) -> list[Epoch]:
    """Train `model` for `recipe.epochs`, and leave it with the weights of the epoch that did best on val.

    Best is the highest val accuracy; among equals the lowest val loss, then the earliest epoch. Where `recipe.average` is
    not 0, it is the running average of the weights that is scored and kept. A training that was killed goes on after its
    last whole epoch, and ends as if nothing had happened.

    Args:
        name: Under which the state between epochs is kept; `resume.finish` it once the results are written.
        key: The `identity` of this training.
        model: In channels-last format; trained in place.
        optimizer: Over the parameters to train, which are `model`'s, wherever that moves. Its groups' rates are the peaks of
            the schedule.
        train, val: The images.
        recipe: The rest of what one can choose.
        about: How the pixels become the network's input.
        run: Every random draw comes from its seed, the epoch and the image's place among `train`.
        fixed_statistics: Whether BatchNorm goes by the mean and variance that `model` comes with, and not by each batch's.

    Returns:
        A row for each epoch that was run: fewer than `recipe.epochs` when `recipe.patience` ended the training.
    """
    model.to(device.choose(run))
    schedule = _schedule(optimizer, recipe, _steps(train, recipe))
    averaged = None
    if recipe.average:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule, "averaged": averaged}
    parts = {kind: part for kind, part in parts.items() if part is not None}
    history: list[Epoch] = []
    best = plain(model.state_dict())
    if state := resume.load(name, key):
        for kind, part in parts.items():
            part.load_state_dict(state[kind])
        history, best = [Epoch(*row) for row in state["history"]], state["best"]
        tqdm.write(f"going on after epoch {len(history)} of an earlier run")

    while len(history) < recipe.epochs and not _is_out_of_patience(history, recipe.patience):
        number = len(history) + 1
        set_training(model, fixed_statistics)
        loss, accuracy = train_epoch(model, averaged, optimizer, schedule, train, recipe, about, run, number)
        scored = averaged.module if averaged else model
        val_loss, val_accuracy = score(scored, val, about, run)
        if not math.isfinite(loss + val_loss):
            raise UserError(
                f"the training diverged in epoch {number} (its loss is no number): lower the learning rate of {name} in "
                "params.yaml"
            )
        history.append(Epoch(number, loss, accuracy, val_loss, val_accuracy, float(schedule.get_last_lr()[0])))
        if best_epoch(history) is history[-1]:
            best = plain(scored.state_dict())
        states = {kind: part.state_dict() for kind, part in parts.items()}
        resume.save(name, key, {**states, "history": [astuple(epoch) for epoch in history], "best": best})
        tqdm.write(describe(history[-1], recipe.epochs))  # what a log shows is never trained again
    model.load_state_dict(best)
    return history


def train_epoch(
    model: Classifier,
    averaged: AveragedModel | None,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    train: Folder,
    recipe: Recipe,
    about: About,
    run: Run,
    number: int,
) -> tuple[float, float]:
    """One pass over the training images; its mean loss and accuracy, on augmented images and while the weights change."""
    where, every, count = device.choose(run), torch.from_numpy(train.labels), len(train.labels)
    order, draws = draw(run.seed, number, count)
    weight = None
    if recipe.class_weights == "balanced":
        weight = class_weights(train.labels, len(train.classes)).to(where)
    total, hits = 0.0, 0
    for batch in progress(torch.tensor_split(order, _steps(train, recipe)), f"epoch {number}/{recipe.epochs}"):
        labels = every[batch].to(where)
        images = augment(as_tensor(train.pixels[batch.numpy()], where), draws[batch].to(where), recipe.augment)
        with device.precision(run):
            logits = model(normalised(images, about)).float()
        loss = functional.cross_entropy(logits, labels, weight, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if averaged:
            averaged.update_parameters(model)
        total += loss.item() * len(batch)
        hits += int((logits.argmax(1) == labels).sum())
    return total / count, hits / count


def _steps(train: Folder, recipe: Recipe) -> int:
    """Batches an epoch. They are as equal as can be and hold at least `batch_size` images: none is too small for BatchNorm."""
    return max(1, len(train.labels) // recipe.batch_size)


def _is_out_of_patience(history: list[Epoch], patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    return bool(patience and history) and len(history) - best_epoch(history).epoch >= patience


def best_epoch(history: list[Epoch]) -> Epoch:
    """The epoch that val chose: highest accuracy, then lowest loss, then earliest."""
    return max(history, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss))


def curves(history: list[Epoch]) -> tuple[list[str], list[tuple[float, ...]]]:
    """The header and the rows of a CSV of `history`."""
    return [field.name for field in fields(Epoch)], [astuple(epoch) for epoch in history]


def summary(history: list[Epoch]) -> dict[str, float]:
    """The figures of the chosen epoch, and how many were run."""
    chosen = best_epoch(history)
    return {
        "best_epoch": chosen.epoch,
        "epochs": len(history),
        "train_accuracy": chosen.train_accuracy,
        "train_loss": chosen.train_loss,
        "val_accuracy": chosen.val_accuracy,
        "val_loss": chosen.val_loss,
    }


def describe(epoch: Epoch, epochs: int) -> str:
    """One line for people and logs."""
    return (
        f"epoch {epoch.epoch:3d}/{epochs}  train loss {epoch.train_loss:.3f} accuracy {epoch.train_accuracy:.3f}  "
        f"val loss {epoch.val_loss:.3f} accuracy {epoch.val_accuracy:.3f}"
    )


def draw(seed: int, epoch: int, count: int) -> tuple[Tensor, Tensor]:
    """The order of the images in an epoch, int64 (count,), and each image's own draws, float32 (count, DRAWS).

    It also seeds torch's global generator, from which dropout draws. Nothing here depends on what ran before: an epoch
    can be run again by itself.
    """
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    torch.manual_seed(int.from_bytes(digest[8:16], "big", signed=True))
    return torch.randperm(count, generator=generator), torch.rand(count, DRAWS, generator=generator)


def set_training(model: torch.nn.Module, fixed_statistics: bool) -> None:
    """Training mode, but for BatchNorm's layers where their statistics are fixed."""
    model.train()
    for module in model.modules():
        if fixed_statistics and isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def score(model: torch.nn.Module, data: Folder, about: About, run: Run) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on `data`."""
    logits, labels = torch.from_numpy(predict(model, data.pixels, about, run)), torch.from_numpy(data.labels)
    return functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).double().mean().item()


def class_weights(labels: np.ndarray, classes: int) -> Tensor:
    """Weights that let each class count the same: N / (classes * count), scikit-learn's "balanced". float32 (classes,)."""
    return torch.from_numpy(len(labels) / (classes * np.bincount(labels, minlength=classes))).float()


def progress(batches: Iterable[Tensor], what: str) -> Iterable[Tensor]:
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(batches, what, unit="batch", leave=False, disable=None)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of each of the training's steps."""
    total = recipe.epochs * steps
    match recipe.schedule:
        case "one_cycle":  # Smith and Topin 2018, as torch has it: warm up for 30 %, then down to nothing
            peaks = [group["lr"] for group in optimizer.param_groups]
            return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=total + 1, cycle_momentum=False)
        case "cosine":  # Loshchilov and Hutter 2017, one period
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        case _:
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
