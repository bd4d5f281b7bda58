"""Stage train_scratch: a small CNN from random weights."""

from typing import Annotated

import torch
from pydantic import Field

from darkroom.data.sides import load_train_and_val
from darkroom.networks import small_cnn
from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import check
from darkroom.system import params
from darkroom.system.files import read_json
from darkroom.training import job, optimizers
from darkroom.training.augmentation import flips
from darkroom.training.loop import Task
from darkroom.training.recipe import Recipe

TITLE = "from scratch"


class Params(Recipe):
    """Section `train_scratch` of params.yaml."""

    width: Annotated[int, Field(ge=1, le=1024)]
    blocks: Annotated[int, Field(ge=1, le=8)]


def main() -> None:
    """Read train, val and stats; write the model, its curves and its metrics."""
    recipe = params.load("train_scratch", Params)
    run = params.load("run", params.Run)
    train, val = load_train_and_val()
    stats = read_json("metrics/stats.json")
    mean, std = ([stats[what][channel] for channel in ("red", "green", "blue")] for what in ("mean", "std"))
    about = About(
        title=TITLE,
        architecture=small_cnn.NAME,
        options={"width": recipe.width, "blocks": recipe.blocks, "dropout": recipe.dropout},
        classes=train.classes,
        resolution=train.pixels.shape[1],
        flips=flips(recipe.augment),
        mean=mean,
        std=[max(value, 1 / 255) for value in std],  # a channel that never changes has none
        curves=True,
    )
    torch.manual_seed(run.seed)
    model = small_cnn.small_cnn(len(train.classes), recipe.width, recipe.blocks, recipe.dropout)
    check(model, about.resolution, "lower train_scratch.blocks")
    optimizer = optimizers.build(recipe, [(model, recipe.lr)])
    job.train("scratch", model, optimizer, Task("train_scratch", train, val, recipe, about, run))
