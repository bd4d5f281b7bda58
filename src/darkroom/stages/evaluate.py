"""Stage evaluate: both models on the test images, once, and which is better. The only reader of test labels."""

from functools import cache
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from sklearn.metrics import roc_curve

from darkroom.data.images import Folder, load_folder
from darkroom.data.layout import SPLIT
from darkroom.evaluation import bootstrap, metrics
from darkroom.evaluation.titles import MODELS
from darkroom.networks import checkpoint, forward, registry
from darkroom.networks.classifier import Classifier
from darkroom.pictures import evaluate as pictures
from darkroom.system import files, params


class Params(params.Section):
    """Section `evaluate` of params.yaml."""

    bins: Annotated[int, Field(ge=2, le=100)]
    resamples: Annotated[int, Field(ge=100)]
    merge: str | None
    mirror: bool

    @field_validator("merge")
    @classmethod
    def _compiles(cls, merge: str | None) -> str | None:
        return params.pattern(merge)


def main() -> None:
    """Read the test images and both models; write scores, predictions, curves and pictures."""
    choices = params.load("evaluate", Params)
    run = params.load("run", params.Run)
    memory = params.load("images", params.Images).memory

    @cache  # both models as a rule look at the same pixels
    def decoded(resolution: int, classes: tuple[str, ...]) -> Folder:
        return load_folder(SPLIT / "test", resolution, memory, list(classes))

    probabilities, networks = {}, {}
    for name, path in checkpoint.MODELS.items():
        networks[name], about = registry.load(path)
        test = decoded(about.resolution, tuple(about.classes))
        probabilities[name] = forward.probabilities(networks[name], test.pixels, about, run, choices.mirror)

    scores: dict[str, Any] = {name: judge(test, own, choices, run.seed) for name, own in probabilities.items()}
    right = {name: own.argmax(1) == test.labels for name, own in probabilities.items()}
    scores["comparison"] = compare(right["scratch"], right["finetune"])
    scores["count"] = len(test.labels)
    files.write_json("metrics/evaluate.json", scores)
    write_predictions(test, probabilities)
    write_roc(test, probabilities)
    write_reliability(test, probabilities, choices.bins)
    classified = {MODELS[name]: own.argmax(1) for name, own in probabilities.items()}
    pictures.confusion(test.labels, classified, test.classes, "plots/confusion.png")
    curves = {MODELS[name]: files.read_csv(f"plots/train_{name}.csv") for name in checkpoint.MODELS}
    pictures.curves(curves, "plots/curves.png")
    pictures.layers(MODELS["scratch"], layers(networks["scratch"], about.resolution, run), "plots/network.png")


def judge(test: Folder, probabilities: np.ndarray, choices: Params, seed: int) -> dict[str, Any]:
    """Every figure of one model."""
    labels, predicted = test.labels, probabilities.argmax(1)
    values = {
        "macro_f1": metrics.macro_f1(labels, probabilities),
        "auroc": metrics.auroc(labels, probabilities),
    }
    # scikit-learn gives each figure; for thousands of resamples the same in products of matrices takes a tenth of the time.
    weighted = {"macro_f1": bootstrap.macro_f1, "auroc": bootstrap.auroc}
    intervals = bootstrap.intervals(weighted, labels, probabilities, choices.resamples, seed)
    figures_of_merit: dict[str, Any] = {
        "accuracy": metrics.accuracy(labels, predicted),
        # No interval: a resample of a calibrated model looks less calibrated than the model is.
        "ece": {"value": metrics.ece(labels, probabilities, choices.bins)},
        "per_class": metrics.per_class(labels, probabilities, test.classes),
        **{name: with_interval(value, *intervals[name]) for name, value in values.items()},
    }
    merged = metrics.merge_classes(test.classes, choices.merge)
    if len(set(merged)) < len(merged):
        figures_of_merit["merged_accuracy"] = metrics.accuracy(merged[labels], merged[predicted])
    return figures_of_merit


def with_interval(value: float, low: float, high: float) -> dict[str, float]:
    """A figure and its interval, which is left out where no resample defines it."""
    return {"value": value} | ({"low": low, "high": high} if np.isfinite(low) else {})


def compare(scratch: np.ndarray, finetune: np.ndarray) -> dict[str, Any]:
    """McNemar's test in the models' own names."""
    result = metrics.mcnemar(scratch, finetune)
    return {
        "only_scratch_right": result["only_first"],
        "only_finetune_right": result["only_second"],
        "mcnemar_p": result["p"],
        "better": {"first": "scratch", "second": "finetune", "neither": "no evidence"}[result["better"]],
    }


def write_predictions(test: Folder, probabilities: dict[str, np.ndarray]) -> None:
    """A row an image: what it is, what each model says, and with which probabilities."""
    header = [
        "path",
        "actual",
        *probabilities,
        *(f"{name}_{label}" for name in probabilities for label in test.classes),
    ]
    rows = [
        [path, test.classes[test.labels[row]]]
        + [test.classes[own[row].argmax()] for own in probabilities.values()]
        + [value for own in probabilities.values() for value in own[row]]
        for row, path in enumerate(test.paths)
    ]
    files.write_csv("plots/predictions.csv", header, rows)


def write_roc(test: Folder, probabilities: dict[str, np.ndarray]) -> None:
    """Each model's ROC curve of each class against the rest, as CSV and as a chart."""
    curves = {
        name: {label: roc_curve(test.labels == k, own[:, k])[:2] for k, label in enumerate(test.classes)}
        for name, own in probabilities.items()
    }
    header = ("model", "class", "false_positive_rate", "true_positive_rate")
    rows = [
        (name, label, x, y)
        for name, by_class in curves.items()
        for label, (xs, ys) in by_class.items()
        for x, y in zip(xs, ys, strict=True)
    ]
    files.write_csv("plots/roc.csv", header, rows)
    pictures.roc({MODELS[name]: by_class for name, by_class in curves.items()}, "plots/roc.png")


def write_reliability(test: Folder, probabilities: dict[str, np.ndarray], bins: int) -> None:
    """How often each model is right at each confidence, as CSV and as a chart."""
    tables = {name: metrics.reliability(test.labels, own, bins) for name, own in probabilities.items()}
    rows = [(name, *row) for name, table in tables.items() for row in table]
    files.write_csv("plots/reliability.csv", ("model", *metrics.Reliability._fields), rows)
    pictures.reliability({MODELS[name]: table for name, table in tables.items()}, "plots/reliability.png")


def layers(model: Classifier, resolution: int, run: params.Run) -> list[tuple[str, str, int]]:
    """Name, output shape (channels x height x width) and number of parameters of each layer, in the order of a forward pass."""
    rows: list[tuple[str, str, int]] = []

    def note(name: str) -> Any:
        def hook(module: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
            shape = " x ".join(map(str, output.shape[1:]))
            rows.append((f"{name}  {type(module).__name__}", shape, sum(own.numel() for own in module.parameters())))

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note(name)) for name, module in leaves]
    about = checkpoint.About("", {}, [], resolution, [], [0.0] * 3, [1.0] * 3)
    forward.predict(model, np.zeros((1, resolution, resolution, 3), np.uint8), about, run)
    for hook in hooks:
        hook.remove()
    return rows
