"""Stage evaluate: each model on the test images, once, and which model is better. The only stage that scores on test."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from sklearn.metrics import log_loss, roc_curve

from darkroom.data.groups import units_of_side
from darkroom.data.images import Folder, load_folder
from darkroom.data.layout import SPLIT
from darkroom.evaluation import bootstrap, conformal, metrics, paired, per_class
from darkroom.networks import checkpoint, forward, registry
from darkroom.networks.calibration import calibrated, unlikeness
from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import Classifier
from darkroom.networks.registry import Model
from darkroom.pictures import evaluate as pictures
from darkroom.system import device, files, params
from darkroom.training import history

DEPTH = 3  # of the modules that the table of a network lists: fine enough for a small CNN, coarse enough for a backbone


class Params(params.Section):
    """Section `evaluate` of params.yaml."""

    bins: Annotated[int, Field(ge=2, le=100)]
    resamples: Annotated[int, Field(ge=100)]
    merge: str | None

    @field_validator("merge")
    @classmethod
    def _compiles(cls, merge: str | None) -> str | None:
        return params.pattern(merge)


def main() -> None:
    """Read the test images and the models; write metrics, predictions, curves and charts."""
    choices = params.load("evaluate", Params)
    run = params.load("run", params.Run)
    memory = params.load("images", params.Images).memory

    @cache  # most models look at the same pixels
    def decoded(resolution: int, classes: tuple[str, ...]) -> Folder:
        return load_folder(SPLIT / "test", resolution, memory, list(classes))

    abouts, answers, known, networks = {}, {}, {}, {}
    for name in params.models():
        made_from = checkpoint.check_provenance(name, run)
        model = registry.load(checkpoint.path(name))
        about = abouts[name] = model.about
        test = decoded(about.resolution, tuple(about.classes))
        answers[name] = answers_of(model, test, run)
        networks[about.title] = list(layers(model.network, about, run))
        known[name] = {"title": about.title, "made_from": made_from, "temperature": model.calibration.temperature}

    titles = {name: about.title for name, about in abouts.items()}
    probabilities = {name: of_model.probabilities for name, of_model in answers.items()}
    units = units_of_side(SPLIT / "test", test.paths)
    write_metrics(test, known, answers, units, choices, run)
    write_classes(test, probabilities, units)
    write_predictions(test, titles, probabilities)
    write_roc(test, titles, probabilities)
    write_reliability(test, titles, answers, choices.bins)
    write_risk(test, titles, probabilities)
    epochs = {about.title: files.read_csv(history.path(name)) if about.curves else [] for name, about in abouts.items()}
    pictures.curves(epochs, "plots/curves.png")
    pictures.layers(networks, "plots/network.png")


@dataclass(frozen=True)
class Answers:
    """What a model says about N images.

    Attributes:
        probabilities: float64 (N, K), calibrated, rounded to the 6 digits of plots/predictions.csv.
        raw: float64 (N, K), the same without the temperature.
        in_set: bool (N, K), the classes in the set of each image, for `conformal.ERROR_RATE`.
        unknown: bool (N,), whether an image is too unlike the training images.
    """

    probabilities: np.ndarray
    raw: np.ndarray
    in_set: np.ndarray
    unknown: np.ndarray


def answers_of(model: Model, test: Folder, run: params.Run) -> Answers:
    """What `model` says about the test images."""
    known = model.calibration
    logits, features = forward.look(model.network, test.pixels, model.about, run)
    probabilities, raw = (calibrated(logits, by).numpy().round(6) for by in (known.temperature, 1.0))
    of_val = known.scores.numpy(), known.labels.numpy(), known.unlikeness.numpy()
    limits = conformal.limits_of(of_val, len(model.about.classes))
    unknown = unlikeness(features, known.space).numpy() > limits.unlikeness
    return Answers(probabilities, raw, limits.sets(probabilities), unknown)


def write_metrics(
    test: Folder,
    known: dict[str, dict[str, Any]],
    answers: dict[str, Answers],
    units: np.ndarray,
    choices: Params,
    run: params.Run,
) -> None:
    """Each model's metrics, the comparison of each pair of models, and the kind of machine. `known` says what each model is."""
    scores = {
        name: {
            **known[name],
            **judge(test, of_model.probabilities, units, choices, run.seed),
            **judge_doubt(test, of_model, units),
            "uncalibrated": probability_errors(test.labels, of_model.raw, choices.bins),
        }
        for name, of_model in answers.items()
    }
    right = {name: of_model.probabilities.argmax(1) == test.labels for name, of_model in answers.items()}
    comparison: dict[str, Any] = dict(compare_pairs(right, units))
    if (groups := int(units.max()) + 1) < len(units):
        comparison["groups"] = groups
    machine = ", ".join(f"{key} {value}" for key, value in device.kind(run).items())
    tree = {**scores, "comparison": comparison, "count": len(test.labels), "machine": machine}
    files.write_json("metrics/evaluate.json", tree)


def judge(test: Folder, probabilities: np.ndarray, units: np.ndarray, choices: Params, seed: int) -> dict[str, Any]:
    """Every metric of one model."""
    labels, predicted = test.labels, probabilities.argmax(1)
    values = {
        "macro_f1": metrics.macro_f1(labels, probabilities),
        "auroc": metrics.auroc(labels, probabilities),
    }
    # The values are scikit-learn's. bootstrap.py computes the same metrics for all resamples at once, ten times as fast.
    weighted = {"macro_f1": bootstrap.macro_f1, "auroc": bootstrap.auroc}
    intervals = bootstrap.intervals(weighted, labels, probabilities, units, choices.resamples, seed)
    scores: dict[str, Any] = {
        "accuracy": metrics.accuracy(labels, predicted, units),
        **probability_errors(labels, probabilities, choices.bins),
        **{name: with_interval(value, *intervals[name]) for name, value in values.items()},
    }
    merged = metrics.merge_classes(test.classes, choices.merge)
    if len(set(merged)) < len(merged):
        scores["merged_accuracy"] = metrics.accuracy(merged[labels], merged[predicted], units)
    return scores


def probability_errors(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> dict[str, dict[str, float]]:
    """How far the probabilities are off: the calibration error, and the mean cross-entropy in nats.

    The calibration error has no interval: a resample of a calibrated model looks less calibrated than the model is.
    """
    normalised = probabilities / probabilities.sum(1, keepdims=True)  # they are rounded, of which log_loss would warn
    loss = log_loss(labels, normalised, labels=range(probabilities.shape[1]))
    return {"ece": {"value": metrics.ece(labels, probabilities, bins)}, "log_loss": {"value": float(loss)}}


def judge_doubt(test: Folder, answers: Answers, units: np.ndarray) -> dict[str, Any]:
    """How the model says that it does not know: its sets of classes, and the test images that it calls unknown."""
    sizes = answers.in_set.sum(1)
    held = answers.in_set[np.arange(len(sizes)), test.labels]
    right = answers.probabilities.argmax(1) == test.labels
    sure = conformal.sure(answers.in_set, answers.probabilities)
    return {
        "sets": {
            "error_rate": conformal.ERROR_RATE,
            "coverage": metrics.share(held, units),
            "mean_size": float(sizes.mean()),
            "sure": float(sure.mean()),
            **({"accuracy_if_sure": float(right[sure].mean())} if sure.any() else {}),
        },
        "unknown": metrics.share(answers.unknown, units),
    }


def with_interval(value: float, low: float, high: float) -> dict[str, float]:
    """A metric and its interval, which is left out if it is not defined or does not hold the value."""
    return {"value": value} | ({"low": low, "high": high} if low <= value <= high else {})


def compare_pairs(right: dict[str, np.ndarray], units: np.ndarray) -> dict[str, dict[str, Any]]:
    """The paired test of each pair of models' accuracies, adjusted by Holm's method for the number of pairs.

    Args:
        right: Model -> bool (N,), whether it is right about each image.
        units: int64 (N,), the unit of each image, from 0.
    """
    pairs = list(combinations(right, 2))
    adjusted = metrics.holm([paired.accuracy_test(right[a], right[b], units).two_sided for a, b in pairs])
    return {
        f"{first}_{second}": {
            f"only_{first}_right": int((right[first] & ~right[second]).sum()),
            f"only_{second}_right": int((right[second] & ~right[first]).sum()),
            "p": p,
            "better": "no evidence" if p >= metrics.LEVEL else max(first, second, key=lambda name: right[name].sum()),
        }
        for (first, second), p in zip(pairs, adjusted, strict=True)
    }


def write_classes(test: Folder, probabilities: dict[str, np.ndarray], units: np.ndarray) -> None:
    """What each model does with each class."""
    by_model = {
        name: metrics.per_class(test.labels, by_image.argmax(1), units, test.classes)
        for name, by_image in probabilities.items()
    }
    files.write_csv(per_class.PATH, per_class.HEADER, per_class.rows(by_model))


def write_predictions(test: Folder, titles: dict[str, str], probabilities: dict[str, np.ndarray]) -> None:
    """A row per model and image: the actual class, the predicted class, and the probability of each class."""
    header = ["model", "path", "actual", "predicted", *(f"probability_{label}" for label in test.classes)]
    rows = [
        [name, path, test.classes[label], test.classes[row.argmax()], *row]
        for name, by_image in probabilities.items()
        for path, label, row in zip(test.paths, test.labels, by_image, strict=True)
    ]
    files.write_csv("plots/predictions.csv", header, rows)
    predicted = {titles[name]: by_image.argmax(1) for name, by_image in probabilities.items()}
    pictures.confusion(test.labels, predicted, test.classes, "plots/confusion.png")


def write_roc(test: Folder, titles: dict[str, str], probabilities: dict[str, np.ndarray]) -> None:
    """Each model's ROC curve of each class that has test images against the rest, as CSV and as a chart."""
    curves = {
        name: {test.classes[k]: roc_curve(test.labels == k, by_image[:, k])[:2] for k in np.unique(test.labels)}
        for name, by_image in probabilities.items()
    }
    header = ("model", "class", "false_positive_rate", "true_positive_rate")
    rows = [
        (name, label, x, y)
        for name, by_class in curves.items()
        for label, (xs, ys) in by_class.items()
        for x, y in zip(xs, ys, strict=True)
    ]
    files.write_csv("plots/roc.csv", header, rows)
    pictures.roc({titles[name]: by_class for name, by_class in curves.items()}, "plots/roc.png")


def write_reliability(test: Folder, titles: dict[str, str], answers: dict[str, Answers], bins: int) -> None:
    """How often each model is right at each confidence, with its temperature and without, as CSV and as a chart."""
    tables = {
        (name, calibrated): metrics.reliability(test.labels, probabilities, bins)
        for name, of_model in answers.items()
        for calibrated, probabilities in (("yes", of_model.probabilities), ("no", of_model.raw))
    }
    rows = [(*key, *row) for key, table in tables.items() for row in table]
    files.write_csv("plots/reliability.csv", ("model", "calibrated", *metrics.Reliability._fields), rows)
    charted = {title: (tables[name, "yes"], tables[name, "no"]) for name, title in titles.items()}
    pictures.reliability(charted, "plots/reliability.png")


def write_risk(test: Folder, titles: dict[str, str], probabilities: dict[str, np.ndarray]) -> None:
    """How often each model is wrong about the images that it is surest of, as CSV and as a chart."""
    curves = {
        name: metrics.risk_coverage(by_image.argmax(1) == test.labels, by_image.max(1))
        for name, by_image in probabilities.items()
    }
    rows = [(name, *point) for name, curve in curves.items() for point in curve]
    files.write_csv("plots/risk_coverage.csv", ("model", "answered", "wrong"), rows)
    pictures.risk_coverage({titles[name]: curve for name, curve in curves.items()}, "plots/risk_coverage.png")


def layers(model: Classifier, about: About, run: params.Run) -> Iterator[tuple[str, str, int]]:
    """Name, output shape (channels x height x width) and number of parameters of each module, in the order of a forward pass.

    Modules within modules are listed down to `DEPTH`.
    """
    shapes: dict[str, str] = {}

    def note(name: str) -> Any:
        def hook(_: torch.nn.Module, __: Any, output: Any) -> None:
            shapes[name] = " x ".join(map(str, output.shape[1:])) if isinstance(output, torch.Tensor) else ""

        return hook

    listed = dict(listed_modules(model, DEPTH))
    hooks = [module.register_forward_hook(note(name)) for name, module in listed.items()]
    forward.predict(model, np.zeros((1, about.resolution, about.resolution, 3), np.uint8), about, run)
    for hook in hooks:
        hook.remove()
    for name, shape in shapes.items():
        parameters = sum(tensor.numel() for tensor in listed[name].parameters())
        yield f"{name}  {type(listed[name]).__name__}", shape, parameters


def listed_modules(module: torch.nn.Module, depth: int, prefix: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """(name, module) of the parts of a network, no deeper than `depth`. A part with parameters of its own stays whole."""
    for name, part in module.named_children():
        if depth == 1 or not list(part.children()) or list(part.parameters(recurse=False)):
            yield prefix + name, part
        else:
            yield from listed_modules(part, depth - 1, f"{prefix}{name}.")
