"""Optimizers and learning rate schedules."""

from collections.abc import Sequence

import torch
from torch import nn

from darkroom.training.recipe import Recipe


def build(recipe: Recipe, parts: Sequence[tuple[nn.Module, float]]) -> torch.optim.Optimizer:
    """The optimizer that `recipe` names, over the parameters of `parts`.

    Weight decay applies to weights, not to biases and the scales of norms (He et al. 2019).

    Args:
        recipe: Its optimizer, momentum and weight decay are used.
        parts: (module, the peak of its learning rate) each.

    Returns:
        SGD with Nesterov momentum, or AdamW (Loshchilov and Hutter 2019), whose first beta is `recipe.momentum`.
    """
    groups = []
    for part, lr in parts:
        weights = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in part.parameters() if parameter.ndim <= 1]
        groups.append({"params": weights, "lr": lr, "weight_decay": recipe.weight_decay})
        groups.append({"params": others, "lr": lr, "weight_decay": 0.0})
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
        case "adamw":
            # Not fused, it takes the roots by a function of MKL that rounds as the CPU's vendor approximates 1 / sqrt(x).
            return torch.optim.AdamW(groups, betas=(recipe.momentum, 0.999), fused=True)


def schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of each step of the training; `steps` is the number of steps per epoch."""
    total = recipe.epochs * steps
    match recipe.schedule:
        case "one_cycle":  # Smith and Topin 2018: up to the peak in 30 % of the steps, then down to almost nothing
            peaks = [group["lr"] for group in optimizer.param_groups]
            return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=total + 1, cycle_momentum=False)
        case "cosine":  # Loshchilov and Hutter 2017, one period
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        case "constant":
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
