"""The training loop. Both trainings run through it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from darkroom.data.images import Folder
from darkroom.networks.checkpoint import About, plain
from darkroom.networks.classifier import Classifier
from darkroom.networks.forward import as_tensor, normalised, score
from darkroom.system import device, progress, workers
from darkroom.system.errors import UserError
from darkroom.system.params import Run
from darkroom.training import batch_norm, history, optimizers, pace, resume
from darkroom.training.augmentation import augment, draw
from darkroom.training.batch_norm import Statistics
from darkroom.training.history import Epoch
from darkroom.training.randomness import generator, seed_dropout
from darkroom.training.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """What a model learns from, and how.

    Attributes:
        stage: The stage's name.
        train, val: The images.
        recipe: The stage's params.
        about: How pixels become the network's input.
        run: The seed, the device and its precision.
        fixed_statistics: Whether BatchNorm uses the mean and variance that the model starts with, and not each batch's.
    """

    stage: str
    train: Folder
    val: Folder
    recipe: Recipe
    about: About
    run: Run
    fixed_statistics: bool = False

    @property
    def steps(self) -> int:
        """Batches per epoch. Their sizes differ by one image at most, and are at least `batch_size` if so many images exist."""
        return max(1, len(self.train.labels) // self.recipe.batch_size)


class Learner:
    """A model with its optimizer, its schedule and the running average of its weights."""

    def __init__(self, model: Classifier, optimizer: torch.optim.Optimizer, task: Task) -> None:
        self.task = task
        self.model = model.to(device.choose(task.run))
        self.weight = class_weights(task)
        self.pixels = device.resident(task.train.pixels, device.choose(task.run))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # One vector, which stays. Gradients that come and go between the maps of a pass would break up the memory, 200 MiB more.
        sizes = [parameter.numel() for parameter in trained]
        self.gradient = torch.zeros(sum(sizes), device=trained[0].device)
        for parameter, place in zip(trained, self.gradient.split(sizes), strict=True):
            parameter.grad = place.as_strided(parameter.shape, parameter.stride())
        self.optimizer = optimizer
        self.schedule = optimizers.schedule(task.recipe, optimizer, task.steps)
        self.announced = False  # how long the training will take
        self.ema: AveragedModel | None = None
        if task.recipe.ema:
            self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(task.recipe.ema), use_buffers=True)

    @property
    def scored(self) -> torch.nn.Module:
        """The model that val scores and that is kept: the running average of the weights, if there is one."""
        return self.ema.module if self.ema else self.model

    def part(self, images: Tensor, labels: Tensor, of_batch: Tensor, running: Statistics) -> list[Tensor]:
        """What a shard adds to a step: the gradient, BatchNorm's statistics, and (the weighted sum of its losses, its hits).

        Args:
            images, labels: Of the shard, which may be empty.
            of_batch: The labels of the whole batch. What is minimised is the mean loss over the batch, weighted by class.
            running: Of this epoch.
        """
        share = len(labels) / len(of_batch)
        if not share:
            empty = [self.gradient, running.of_pass, torch.empty(2, device=images.device)]
            return [torch.zeros_like(tensor) for tensor in empty]
        with device.precision(self.task.run):
            logits = self.model(images).float()
        losses = functional.cross_entropy(
            logits, labels, self.weight, label_smoothing=self.task.recipe.label_smoothing, reduction="sum"
        )
        loss = losses / (len(of_batch) if self.weight is None else self.weight[of_batch].sum())
        self.gradient.zero_()
        loss.backward()
        hits = (logits.argmax(1) == labels).sum()
        loss_and_hits = torch.stack([loss.detach() * len(of_batch), hits])
        return [self.gradient.clone(), running.of_shard(share), loss_and_hits]

    def step(self, gradient: Tensor) -> None:
        """Change the weights against the `gradient` of the batch, which has that of each parameter behind one another."""
        self.gradient.copy_(gradient)
        self.optimizer.step()
        self.schedule.step()
        if self.ema:
            self.ema.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        """All that a killed training needs to go on."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return {**parts, "ema": self.ema} if self.ema else parts


def fit(model: Classifier, optimizer: torch.optim.Optimizer, task: Task, state_file: Path) -> list[Epoch]:
    """Train `model` in place, and leave it with the weights of its best epoch on val (`history.best`).

    A training that was killed goes on after its last finished epoch, and ends in the same bytes.

    Args:
        model: In channels-last format.
        optimizer: Over the parameters of `model`. The learning rates of its groups are the peaks of the schedule.
        task: The images, the recipe and the run settings.
        state_file: The state between epochs is kept there (`resume.path`).

    Returns:
        The epochs that were run: fewer than `task.recipe.epochs` if patience ended the training.

    Raises:
        UserError: The loss is no longer a number.
    """
    learner = Learner(model, optimizer, task)
    epochs: list[Epoch] = []
    best = plain(model.state_dict())
    if state := resume.load(state_file):
        learner.load_state_dict(state["learner"])
        epochs, best = [Epoch(*row) for row in state["epochs"]], state["best"]
        tqdm.write(f"going on after epoch {len(epochs)} of an earlier run")

    while not history.is_over(epochs, task.recipe.epochs, task.recipe.patience):
        epochs.append(run_epoch(learner, task, len(epochs) + 1))
        if history.best(epochs) is epochs[-1]:
            best = plain(learner.scored.state_dict())
        rows = [astuple(epoch) for epoch in epochs]
        if workers.is_first():
            resume.save(state_file, {"learner": learner.state_dict(), "epochs": rows, "best": best})
            progress.epochs(task.stage, task.recipe.epochs, *history.table(epochs))
        tqdm.write(history.describe(epochs[-1], task.recipe.epochs))  # after saving: what is logged is kept
    for line in history.explain(epochs, len(task.val.labels)):
        tqdm.write(line)
    model.load_state_dict(best)
    return epochs


def identity(model: Classifier, task: Task) -> dict[str, str]:
    """A digest of each thing that decides how the training of `model` goes, by what a user calls it.

    A killed training is resumed, and another machine may take part in it, only if all are the same.
    """
    made_by = device.made_by(task.run)
    return {
        "code": resume.digest_of_code(),
        "params": resume.digest(task.recipe.model_dump(), asdict(task.about), task.run.model_dump()),
        "packages or kind of machine": resume.digest(made_by),
        "images": resume.digest(task.train.pixels, task.train.labels, task.val.pixels, task.val.labels),
        "first weights": resume.digest(*(tensor.numpy() for tensor in plain(model.state_dict()).values())),
    }


def run_epoch(learner: Learner, task: Task, number: int) -> Epoch:
    """Train for one epoch, then score on val.

    Raises:
        UserError: The loss is no longer a number.
    """
    train_loss, train_accuracy = train_epoch(learner, task, number)
    val_loss, val_accuracy = score(learner.scored, task.val.pixels, task.val.labels, task.about, task.run)
    if not math.isfinite(train_loss + val_loss):
        raise UserError(
            f"the training diverged in epoch {number} (its loss is no number): lower the learning rate of {task.stage} in "
            "params.yaml"
        )
    lr = float(learner.schedule.get_last_lr()[0])
    return Epoch(number, train_loss, train_accuracy, val_loss, val_accuracy, lr)


def train_epoch(learner: Learner, task: Task, number: int) -> tuple[float, float]:
    """One pass over the training images. Return the mean loss and the accuracy."""
    set_training(learner.model, task.fixed_statistics)
    totals = torch.zeros(2, dtype=torch.float64, device=device.choose(task.run))
    steps = batches(task, number, learner.pixels)
    if not learner.announced and workers.is_first():
        scored = len(task.val.labels) / task.recipe.batch_size
        steps = pace.announced(steps, task.steps, scored, task.recipe.epochs - number + 1)
        learner.announced = True
    with batch_norm.statistics(learner.model) as running:
        for labels, shards in steps:
            parts = (learner.part(images, of_shard, labels, running) for images, of_shard in shards)
            gradient, of_batch, loss_and_hits = workers.sum_of_all(workers.tree_sum(parts))
            running.update(of_batch)
            learner.step(gradient)
            totals += loss_and_hits.double()
    loss, accuracy = (totals / len(task.train.labels)).tolist()
    return loss, accuracy


def batches(task: Task, number: int, pixels: Tensor) -> Iterator[tuple[Tensor, Iterator[tuple[Tensor, Tensor]]]]:
    """The training images of one epoch in random order: the labels of each batch, and the shards of it that are this worker's.

    A shard is the network's input, augmented, and the labels. The global generator of torch, from which dropout draws, is seeded
    before each. `pixels` are what `device.resident` made of those of the task.
    """
    seed, count, where = task.run.seed, len(task.train.labels), device.choose(task.run)
    order = torch.randperm(count, generator=generator(seed, number, "order"))
    draws = {name: numbers.to(where) for name, numbers in draw(task.recipe.augment, seed, number, count).items()}
    every = torch.from_numpy(task.train.labels).to(where)

    def shards(step: int, batch: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        parts = torch.tensor_split(batch, task.run.shards)
        for at in workers.share(len(parts)):
            shard = parts[at].to(where, non_blocking=True)
            images = as_tensor(device.chosen(pixels, parts[at], shard))
            if len(shard):  # a small batch has fewer images than shards
                of_shard = {name: numbers[shard] for name, numbers in draws.items()}
                images = augment(images, of_shard, task.recipe.augment)
            seed_dropout(seed, number, step, at)
            yield normalised(images, task.about), every[shard]

    every_step = torch.tensor_split(order, task.steps)
    hidden = None if workers.is_first() else True  # None: unless this is a terminal
    for step, batch in enumerate(
        tqdm(every_step, f"epoch {number}/{task.recipe.epochs}", unit="batch", leave=False, disable=hidden)
    ):
        yield every[batch.to(where, non_blocking=True)], shards(step, batch)


def set_training(model: torch.nn.Module, fixed_statistics: bool) -> None:
    """Set training mode. With `fixed_statistics`, the BatchNorm layers stay in evaluation mode."""
    model.train()
    for module in model.modules():
        if fixed_statistics and isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def class_weights(task: Task) -> Tensor | None:
    """The weight of each class in the loss, float32 (classes,); None if all images count the same.

    "balanced" is scikit-learn's: N / (classes * images of the class), so that each class counts the same.
    """
    if task.recipe.class_weights == "none":
        return None
    labels, classes = task.train.labels, len(task.train.classes)
    weights = len(labels) / (classes * np.bincount(labels, minlength=classes))
    return torch.from_numpy(weights).float().to(device.choose(task.run))
