"""Stage train_finetune: a pretrained backbone and a new head."""

from typing import Annotated

from pydantic import Field

from darkroom.data.sides import load_train_and_val
from darkroom.networks import backbones
from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import check
from darkroom.networks.weights import load_pretrained, with_new_head
from darkroom.system import params
from darkroom.system.params import LearningRate
from darkroom.training import job, optimizers
from darkroom.training.augmentation import flips
from darkroom.training.loop import Task
from darkroom.training.recipe import Recipe

TITLE = "fine-tuned"


class Params(Recipe):
    """Section `train_finetune` of params.yaml."""

    backbone: str
    weights: str
    fingerprint: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")]
    pooling: backbones.Pooling
    head_lr: LearningRate


def main() -> None:
    """Read train and val; write the model, its curves and its metrics."""
    recipe = params.load("train_finetune", Params)
    run = params.load("run", params.Run)
    backbones.check_pooling(recipe.backbone, recipe.pooling)  # before anything is downloaded or decoded
    pretrained = load_pretrained(recipe.backbone, recipe.weights, recipe.fingerprint)
    train, val = load_train_and_val()
    about = About(
        title=TITLE,
        architecture=recipe.backbone,
        options={"pooling": recipe.pooling, "dropout": recipe.dropout},
        classes=train.classes,
        resolution=train.pixels.shape[1],
        flips=flips(recipe.augment),
        mean=pretrained.mean,
        std=pretrained.std,
        curves=True,
    )
    model = with_new_head(pretrained, recipe.backbone, len(train.classes), recipe.pooling, recipe.dropout)
    check(model, about.resolution, "set train_finetune.pooling to average, choose another train_finetune.backbone")
    optimizer = optimizers.build(recipe, [(model.backbone, recipe.lr), (model.head, recipe.head_lr)])
    task = Task("train_finetune", train, val, recipe, about, run, fixed_statistics=True)
    job.train("finetune", model, optimizer, task)
