"""Stage train_finetune: a pretrained backbone and a new head."""

from typing import Annotated

import torch
from pydantic import Field
from torch.nn import functional

from darkroom import checkpoint, models, params, resume, training
from darkroom.environment import made_by
from darkroom.files import write_csv, write_json
from darkroom.images import Folder, load_folder
from darkroom.inference import predict
from darkroom.params import Fraction, Positive
from darkroom.weights import load_pretrained


class Params(training.Recipe):
    """Section `train_finetune` of params.yaml."""

    backbone: str
    weights: str
    fingerprint: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")]
    head_l2: Positive
    freeze: Fraction


def main() -> None:
    """Read train and val; write the model, its curves and its metrics."""
    recipe = params.load("train_finetune", Params)
    run = params.load("run", params.Run)
    images = params.load("images", params.Images)
    pretrained = load_pretrained(recipe.backbone, recipe.weights, recipe.fingerprint)
    train = load_folder("data/split/train", images.resolution)
    val = load_folder("data/split/val", images.resolution, train.classes)

    options = {"dropout": recipe.dropout}
    about = checkpoint.About(
        recipe.backbone, options, train.classes, images.resolution, pretrained.mean, pretrained.std
    )
    torch.manual_seed(run.seed)
    model = models.build(about.architecture, about.options, len(about.classes))
    backbone, _ = models.without_head(pretrained.model)
    model.backbone.load_state_dict(backbone.state_dict())
    models.check(model, images.resolution)
    fit_head(model, train, recipe, about)
    head_loss, head_accuracy = training.score(model, val, about)
    print(f"head alone: val loss {head_loss:.3f} accuracy {head_accuracy:.3f}", flush=True)

    freeze(model.backbone, recipe.freeze)
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=recipe.lr
    )
    history = training.fit("train_finetune", model, optimizer, train, val, recipe, about, run)

    checkpoint.save(checkpoint.MODELS["finetune"], model, about, made_by(run))
    write_csv("plots/train_finetune.csv", *training.curves(history))
    head_alone = {"val_accuracy": head_accuracy, "val_loss": head_loss}
    write_json("metrics/train_finetune.json", {**training.summary(history), "head_alone": head_alone})
    resume.finish("train_finetune", checkpoint.MODELS["finetune"])


def fit_head(model: models.Classifier, train: Folder, recipe: Params, about: checkpoint.About) -> None:
    """Fit the head to its optimum on the frozen backbone's features: L2-penalised logistic regression by L-BFGS.

    A random head would send noise through the backbone for its first epochs; this one costs a single forward pass.
    """
    features = torch.from_numpy(predict(model.backbone, train.pixels, about))
    labels = torch.from_numpy(train.labels)
    weight = training.class_weights(train.labels, len(train.classes)) if recipe.class_weights == "balanced" else None
    head = model.head
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(head(features), labels, weight) + recipe.head_l2 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)


def freeze(backbone: torch.nn.Module, share: float) -> None:
    """Keep the first `share` of the backbone's layers as they are.

    The first layers are general (edges, textures), see the largest maps, and so take most of a training step's time.
    """
    layers = [module for module in backbone.modules() if list(module.parameters(recurse=False))]
    for module in layers[: round(share * len(layers))]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
