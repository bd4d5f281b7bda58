"""Stage train_finetune: a pretrained backbone and a new head."""

from typing import Annotated

import torch
from pydantic import Field

from darkroom.data.images import load_folder
from darkroom.data.layout import SPLIT
from darkroom.networks import backbones, checkpoint
from darkroom.networks.classifier import Classifier, check
from darkroom.networks.weights import load_pretrained
from darkroom.system import params
from darkroom.system.device import made_by
from darkroom.system.files import write_csv, write_json
from darkroom.system.params import LearningRate
from darkroom.training import augmentation, loop, resume


class Params(loop.Recipe):
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
    images = params.load("images", params.Images)
    pretrained = load_pretrained(recipe.backbone, recipe.weights, recipe.fingerprint)
    train = load_folder(SPLIT / "train", images.resolution, images.memory)
    val = load_folder(SPLIT / "val", images.resolution, images.memory, train.classes)

    options = {"pooling": recipe.pooling, "dropout": recipe.dropout}
    about = checkpoint.About(
        recipe.backbone,
        options,
        train.classes,
        images.resolution,
        augmentation.flips(recipe.augment),
        pretrained.mean,
        pretrained.std,
    )
    model = backbones.imagenet_classifier(about.architecture, len(about.classes), recipe.pooling, recipe.dropout)
    backbone, _ = backbones.without_head(pretrained.model)
    model.backbone.load_state_dict(backbone.state_dict())
    for parameter in model.head.parameters():
        torch.nn.init.zeros_(parameter)  # a random head sends noise through the backbone until it has learned something
    check(model, images.resolution, "set train_finetune.pooling to average, choose another train_finetune.backbone")
    key = loop.identity(model, train, val, recipe, about, run)
    history = loop.fit(
        "train_finetune", key, model, adamw(model, recipe), train, val, recipe, about, run, fixed_statistics=True
    )

    checkpoint.save(checkpoint.MODELS["finetune"], model, about, made_by(run))
    write_csv("plots/train_finetune.csv", *loop.curves(history))
    write_json("metrics/train_finetune.json", loop.summary(history))
    resume.finish("train_finetune", checkpoint.MODELS["finetune"])


def adamw(model: Classifier, recipe: Params) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), which pulls weights towards 0, but not biases and the scales of norms.

    The backbone learns at `recipe.lr`, the head at `recipe.head_lr`.
    """
    groups = []
    for part, lr in ((model.backbone, recipe.lr), (model.head, recipe.head_lr)):
        decayed = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        plain = [parameter for parameter in part.parameters() if parameter.ndim <= 1]
        groups.append({"params": decayed, "lr": lr, "weight_decay": recipe.weight_decay})
        groups.append({"params": plain, "lr": lr, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)
