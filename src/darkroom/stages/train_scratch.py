"""Stage train_scratch: a small CNN from random weights."""

from typing import Annotated

import torch
from pydantic import Field

from darkroom.data.images import load_folder
from darkroom.data.layout import SPLIT
from darkroom.networks import checkpoint, small_cnn
from darkroom.networks.classifier import check
from darkroom.system import params
from darkroom.system.device import made_by
from darkroom.system.files import read_json, write_csv, write_json
from darkroom.training import loop, resume
from darkroom.training.augmentation import flips


class Params(loop.Recipe):
    """Section `train_scratch` of params.yaml."""

    momentum: Annotated[float, Field(ge=0, lt=1)]
    width: Annotated[int, Field(ge=1, le=1024)]
    blocks: Annotated[int, Field(ge=1, le=8)]


def main() -> None:
    """Read train, val and stats; write the model, its curves and its metrics."""
    recipe = params.load("train_scratch", Params)
    run = params.load("run", params.Run)
    images = params.load("images", params.Images)
    train = load_folder(SPLIT / "train", images.resolution, images.memory)
    val = load_folder(SPLIT / "val", images.resolution, images.memory, train.classes)
    stats = read_json("metrics/stats.json")

    options = {"width": recipe.width, "blocks": recipe.blocks, "dropout": recipe.dropout}
    mean, std = ([stats[what][channel] for channel in ("red", "green", "blue")] for what in ("mean", "std"))
    std = [max(value, 1 / 255) for value in std]  # of a channel that never changes: nothing to scale
    about = checkpoint.About(
        small_cnn.NAME, options, train.classes, images.resolution, flips(recipe.augment), mean, std
    )
    torch.manual_seed(run.seed)
    model = small_cnn.small_cnn(len(about.classes), recipe.width, recipe.blocks, recipe.dropout)
    check(model, images.resolution, "lower train_scratch.blocks")
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0
    )
    key = loop.identity(model, train, val, recipe, about, run)
    history = loop.fit("train_scratch", key, model, optimizer, train, val, recipe, about, run)

    checkpoint.save(checkpoint.MODELS["scratch"], model, about, made_by(run))
    write_csv("plots/train_scratch.csv", *loop.curves(history))
    write_json("metrics/train_scratch.json", loop.summary(history))
    resume.finish("train_scratch", checkpoint.MODELS["scratch"])
