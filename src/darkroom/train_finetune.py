"""Stage train_finetune: a pretrained backbone and a new head."""

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from darkroom import augment, checkpoint, device, models, params, resume, training
from darkroom.environment import made_by
from darkroom.errors import UserError
from darkroom.files import write_csv, write_json
from darkroom.images import Folder, load_folder, room_for
from darkroom.inference import as_tensor, batches, normalised, views
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
    frozen, trained = models.cut(model.backbone, recipe.freeze, images.resolution)
    below, every = (sum(own.numel() for own in part.parameters()) for part in (frozen, model.backbone))
    print(f"frozen: {below:,} of the backbone's {every:,} parameters", flush=True)
    upper = models.Classifier(trained, model.head, recipe.dropout)
    shown, held_out = (
        above(frozen, train, views(about), recipe.augment, about, run, images.memory),
        above(frozen, val, [()], recipe.augment, about, run, images.memory),
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


def above(
    frozen: torch.nn.Module,
    folder: Folder,
    flips: list[tuple[int, ...]],
    how: augment.Augment,
    about: checkpoint.About,
    run: params.Run,
    memory: int,
) -> training.Source:
    """The images of `folder` as the layers above `frozen` take them.

    Where an image can only be mirrored, what the frozen layers make of each of `flips`, its views, is computed once and
    kept, in half precision: the first layers see the largest maps, and so take most of a step's time. Else it is computed
    in each step. More than `memory` MiB are kept in a file.
    """
    source = training.pixels(folder, how, about, run)
    frozen.eval()

    @torch.no_grad()
    def passed(images: Tensor) -> Tensor:
        with device.precision(run):
            maps: Tensor = frozen(images)
        return maps.float()

    if not augment.is_flips_alone(how) or next(frozen.parameters(), None) is None:
        return training.Source(
            source.labels, source.classes, lambda chosen, draws: passed(source.inputs(chosen, draws))
        )
    kept = keep(passed, folder, flips, about, run, memory)

    def inputs(chosen: Tensor, draws: Tensor | None) -> Tensor:
        view = 0 if draws is None else augment.which_view(draws, how).numpy()
        maps = torch.from_numpy(kept[view, chosen.numpy()]).to(device.choose(run))
        return _channels_first(maps.float())

    return training.Source(source.labels, source.classes, inputs)


def keep(
    passed: Callable[[Tensor], Tensor],
    folder: Folder,
    flips: list[tuple[int, ...]],
    about: checkpoint.About,
    run: params.Run,
    memory: int,
) -> np.ndarray:
    """What `passed` makes of each view of each image: float16 (views, N, H, W, C), or (views, N, ...) where it is no map.

    Raises:
        UserError: A number is beyond half precision.
    """
    kept: np.ndarray | None = None
    for view, flip in enumerate(flips):
        for batch in batches(len(folder.pixels)):
            images = as_tensor(folder.pixels[batch], device.choose(run))
            maps = _channels_last(passed(normalised(images.flip(flip) if flip else images, about))).half().cpu().numpy()
            if not np.isfinite(maps).all():
                raise UserError(
                    "the frozen layers of this backbone give numbers beyond half precision: set train_finetune.freeze to 0 "
                    "in params.yaml"
                )
            if kept is None:
                kept = room_for((len(flips), len(folder.pixels), *maps.shape[1:]), memory, np.float16)
            kept[view, batch] = maps
    assert kept is not None, "a folder holds an image or is refused"
    return kept


def _channels_last(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1) if maps.ndim == 4 else maps


def _channels_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2) if maps.ndim == 4 else maps


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
