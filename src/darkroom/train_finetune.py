"""Stage train_finetune: a pretrained backbone and a new head."""

from typing import Annotated

import torch
from pydantic import Field
from torch.nn import functional

from darkroom import augment, checkpoint, device, frozen, models, params, resume, training
from darkroom.environment import made_by
from darkroom.files import write_csv, write_json
from darkroom.images import load_folder
from darkroom.inference import views
from darkroom.params import Fraction, Positive
from darkroom.weights import load_pretrained


class Params(training.Recipe):
    """Section `train_finetune` of params.yaml."""

    backbone: str
    weights: str
    fingerprint: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")]
    pooling: models.Pooling
    head_l2: Positive
    freeze: Fraction


def main() -> None:
    """Read train and val; write the model, its curves and its metrics."""
    recipe = params.load("train_finetune", Params)
    run = params.load("run", params.Run)
    images = params.load("images", params.Images)
    pretrained = load_pretrained(recipe.backbone, recipe.weights, recipe.fingerprint)
    train = load_folder("data/split/train", images.resolution, images.memory)
    val = load_folder("data/split/val", images.resolution, images.memory, train.classes)

    options = {"pooling": recipe.pooling, "dropout": recipe.dropout}
    about = checkpoint.About(
        recipe.backbone,
        options,
        train.classes,
        images.resolution,
        augment.flips(recipe.augment),
        pretrained.mean,
        pretrained.std,
    )
    torch.manual_seed(run.seed)
    model = models.build(about.architecture, about.options, len(about.classes))
    backbone, _ = models.without_head(pretrained.model)
    model.backbone.load_state_dict(backbone.state_dict())
    models.check(
        model, images.resolution, "set train_finetune.pooling to average, choose another train_finetune.backbone"
    )
    key = training.identity(model, train, val, recipe, about, run)

    model.to(device.choose(run))
    lower, trained = frozen.cut(model.backbone, recipe.freeze, images.resolution)
    below, every = (sum(own.numel() for own in part.parameters()) for part in (lower, model.backbone))
    print(f"frozen: {below:,} of the backbone's {every:,} parameters", flush=True)
    upper = models.Classifier(trained, model.head, recipe.dropout)
    shown, held_out = (
        frozen.above(lower, train, views(about), recipe.augment, about, run, images.memory),
        frozen.above(lower, val, [()], recipe.augment, about, run, images.memory),
    )
    fit_head(upper, shown, recipe, run)
    head_loss, head_accuracy = training.score(upper, held_out, run)
    print(f"head alone: val loss {head_loss:.3f} accuracy {head_accuracy:.3f}", flush=True)
    history = training.fit(
        "train_finetune", key, upper, adamw(upper, recipe), shown, held_out, recipe, run, fixed_statistics=True
    )

    checkpoint.save(checkpoint.MODELS["finetune"], model, about, made_by(run))
    write_csv("plots/train_finetune.csv", *training.curves(history))
    head_alone = {"val_accuracy": head_accuracy, "val_loss": head_loss}
    write_json("metrics/train_finetune.json", {**training.summary(history), "head_alone": head_alone})
    resume.finish("train_finetune", checkpoint.MODELS["finetune"])


def fit_head(model: models.Classifier, train: training.Source, recipe: Params, run: params.Run) -> None:
    """Fit the head to its optimum on the features of the images as they are: L2-penalised logistic regression by L-BFGS.

    A random head would send noise through the backbone for its first epochs; this one costs a single forward pass. The
    penalty is on the weights of features scaled to a variance of 1.
    """
    features = training.outputs(model.backbone, train, run)
    mean, std = features.mean(0), features.std(0) + 1e-3  # of a feature that never changes: nothing to scale
    features = (features - mean) / std
    head = torch.nn.Linear(model.head.in_features, model.head.out_features)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    weight = None
    if recipe.class_weights == "balanced":
        weight = training.class_weights(train.labels.numpy(), train.classes)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = recipe.head_l2 * head.weight.square().sum()
        value = functional.cross_entropy(head(features), train.labels, weight) + penalty
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        model.head.weight.copy_(head.weight / std)
        model.head.bias.copy_(head.bias - head.weight @ (mean / std))


def adamw(model: models.Classifier, recipe: Params) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), which does not pull biases and the scales of norms towards 0."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=recipe.lr
    )
