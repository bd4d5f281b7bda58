"""Stage evaluate: each model on the test images, once, and which model is better. The only stage that scores on test."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from sklearn.metrics import roc_curve

from darkroom.data.groups import units_of_side
from darkroom.data.images import Folder, load_folder
from darkroom.data.layout import SPLIT
from darkroom.evaluation import bootstrap, conformal, metrics, paired, per_class, said
from darkroom.evaluation.said import Said
from darkroom.networks import checkpoint, forward, registry
from darkroom.networks.calibration import calibrated, unlikeness
from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import Classifier
from darkroom.networks.registry import Model
from darkroom.pictures import evaluate as pictures
from darkroom.system import device, files, params
from darkroom.system.errors import UserError
from darkroom.training import history

PIECE = 4096  # images that a model looks at before their probabilities are put away
# How many ROC curves a model has at most, and points each of them, if there are many classes or images.
CURVES, POINTS = 100, 200
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

    abouts, judged, networks = {}, {}, {}
    for name in params.models():
        made_from = checkpoint.check_provenance(name, run)
        model = registry.load(checkpoint.path(name))
        about = abouts[name] = model.about
        if about.title in networks:
            raise UserError(
                f"two models are called {about.title!r} in charts: change TITLE in one of their stages' files"
            )
        test = decoded(about.resolution, tuple(about.classes))
        networks[about.title] = list(layers(model.network, about, run))
        known = {"title": about.title, "made_from": made_from, "temperature": model.calibration.temperature}
        units = units_of_side(SPLIT / "test", test.paths)
        judged[name] = judge_model(test, answers_of(model, test, run), units, choices, run.seed, known)

    write(test, judged, units, choices, run)  # test and units are the same for all models, but for the resolution
    epochs = {about.title: files.read_csv(history.path(name)) if about.curves else [] for name, about in abouts.items()}
    pictures.curves(epochs, "plots/curves.png")
    pictures.layers(networks, "plots/network.png")


@dataclass(frozen=True)
class Answers:
    """What a model says about N images.

    Attributes:
        said: Its calibrated probabilities, rounded to the 6 digits of plots/predictions.csv.
        raw: The same without the temperature, without the table of all probabilities.
        set_sizes: int64 (N,), the number of classes in the set of each image, for `conformal.ERROR_RATE`.
        held: bool (N,), whether the set holds the class that the image has.
        sure: bool (N,), see `conformal.sure`.
        unknown: bool (N,), whether an image is too unlike the training images.
    """

    said: Said
    raw: Said
    set_sizes: np.ndarray
    held: np.ndarray
    sure: np.ndarray
    unknown: np.ndarray


@dataclass(frozen=True)
class Judged:
    """A model's answers without what is too large to keep, its metrics, and its ROC curves.

    A curve has the false positive rates and the true positive rates, by the name of the class.
    """

    answers: Answers
    scores: dict[str, Any]
    curves: dict[str, tuple[np.ndarray, np.ndarray]]


def answers_of(model: Model, test: Folder, run: params.Run) -> Answers:
    """What `model` says about the test images. It looks at a piece of them at a time: many views of all would fill the memory."""
    known = model.calibration
    of_val = known.scores.numpy(), known.labels.numpy(), known.unlikeness.numpy()
    limits = conformal.limits_of(of_val, len(model.about.classes))
    probabilities = np.empty((len(test.labels), len(model.about.classes)))
    raw, unlike = [], []
    for start in range(0, len(test.labels), PIECE):
        piece = slice(start, start + PIECE)
        logits, features = forward.look(model.network, test.pixels[piece], model.about, run)
        probabilities[piece] = calibrated(logits, known.temperature).numpy().round(6)
        plain = said.from_probabilities(calibrated(logits, 1.0).numpy().round(6), test.labels[piece])
        raw.append(replace(plain, probabilities=None))
        unlike.append(unlikeness(features, known.space).numpy())
    unknown = np.concatenate(unlike) > limits.unlikeness
    return with_sets(
        said.from_probabilities(probabilities, test.labels), said.joined(raw), limits, test.labels, unknown
    )


def with_sets(of_model: Said, raw: Said, limits: conformal.Limits, labels: np.ndarray, unknown: np.ndarray) -> Answers:
    """The answers with the set of each image. The arguments are those of `Answers`; `of_model` has all probabilities."""
    assert of_model.probabilities is not None
    found = []
    for start in range(0, len(labels), PIECE):
        probabilities, own = of_model.probabilities[start : start + PIECE], labels[start : start + PIECE]
        in_set = limits.sets(probabilities)
        found.append((in_set.sum(1), in_set[np.arange(len(own)), own], conformal.sure(in_set, probabilities)))
    set_sizes, held, sure = map(np.concatenate, zip(*found, strict=True))
    return Answers(of_model, raw, set_sizes, held, sure, unknown)


def judge_model(
    test: Folder, answers: Answers, units: np.ndarray, choices: Params, seed: int, known: dict[str, Any]
) -> Judged:
    """All figures of one model, beside what is `known` about it."""
    scores = {
        **known,
        **judge(test, answers.said, units, choices, seed),
        **judge_doubt(test, answers, units),
        "uncalibrated": probability_errors(test.labels, answers.raw, choices.bins),
    }
    return Judged(replace(answers, said=said.kept(answers.said)), scores, roc_curves(test, answers.said))


def write(test: Folder, judged: dict[str, Judged], units: np.ndarray, choices: Params, run: params.Run) -> None:
    """Write the metrics, and the tables and charts of all models' answers."""
    titles = {name: of.scores["title"] for name, of in judged.items()}
    answers = {name: of.answers for name, of in judged.items()}
    of_models = {name: of.answers.said for name, of in judged.items()}
    write_metrics(test, {name: of.scores for name, of in judged.items()}, of_models, units, run)
    write_classes(test, of_models, units)
    write_predictions(test, titles, of_models)
    write_roc(titles, {name: of.curves for name, of in judged.items()})
    write_reliability(test, titles, answers, choices.bins)
    write_risk(test, titles, of_models)


def write_metrics(
    test: Folder, scores: dict[str, dict[str, Any]], of_models: dict[str, Said], units: np.ndarray, run: params.Run
) -> None:
    """Each model's metrics, the comparison of each pair of models, and the kind of machine."""
    right = {name: of.predicted == test.labels for name, of in of_models.items()}
    comparison: dict[str, Any] = dict(compare_pairs(right, units))
    if (groups := int(units.max()) + 1) < len(units):
        comparison["groups"] = groups
    machine = ", ".join(f"{key} {value}" for key, value in device.kind(run).items())
    tree = {**scores, "comparison": comparison, "count": len(test.labels), "machine": machine}
    files.write_json("metrics/evaluate.json", tree)


def judge(test: Folder, of_model: Said, units: np.ndarray, choices: Params, seed: int) -> dict[str, Any]:
    """Every metric of one model, from all its probabilities."""
    labels, predicted = test.labels, of_model.predicted
    assert of_model.probabilities is not None
    weighted: dict[str, bootstrap.Statistic] = {"macro_f1": bootstrap.macro_f1, "auroc": bootstrap.auroc}
    # The values are scikit-learn's. bootstrap.py computes the same metrics for all resamples at once, ten times as fast.
    values = {"macro_f1": metrics.macro_f1(labels, predicted)}
    if said.kept(of_model) is of_model:
        values["auroc"] = metrics.auroc(labels, of_model.probabilities)
    else:
        values["auroc"], weighted["auroc"] = bootstrap.linear_auroc(labels, of_model)
    intervals = bootstrap.intervals(weighted, labels, of_model, units, choices.resamples, seed)
    scores: dict[str, Any] = {
        "accuracy": metrics.accuracy(labels, predicted, units),
        **probability_errors(labels, of_model, choices.bins),
        **{name: with_interval(value, *intervals[name]) for name, value in values.items()},
    }
    merged = metrics.merge_classes(test.classes, choices.merge)
    if len(set(merged)) < len(merged):
        scores["merged_accuracy"] = metrics.accuracy(merged[labels], merged[predicted], units)
    return scores


def probability_errors(labels: np.ndarray, of_model: Said, bins: int) -> dict[str, dict[str, float]]:
    """How far the probabilities are off: the calibration error, and the mean cross-entropy in nats.

    The calibration error has no interval: a resample of a calibrated model looks less calibrated than the model is.
    """
    errors = {"ece": metrics.ece(labels, of_model, bins), "log_loss": metrics.log_loss(of_model)}
    return {name: {"value": value} for name, value in errors.items()}


def judge_doubt(test: Folder, answers: Answers, units: np.ndarray) -> dict[str, Any]:
    """How the model says that it does not know: its sets of classes, and the test images that it calls unknown."""
    right, sure = answers.said.predicted == test.labels, answers.sure
    return {
        "sets": {
            "error_rate": conformal.ERROR_RATE,
            "coverage": metrics.share(answers.held, units),
            "mean_size": float(answers.set_sizes.mean()),
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


def write_classes(test: Folder, of_models: dict[str, Said], units: np.ndarray) -> None:
    """What each model does with each class."""
    by_model = {
        name: metrics.per_class(test.labels, of.predicted, units, test.classes) for name, of in of_models.items()
    }
    files.write_csv(per_class.PATH, per_class.HEADER, per_class.rows(by_model))


def write_predictions(test: Folder, titles: dict[str, str], of_models: dict[str, Said]) -> None:
    """A row per model and image: the actual class, the predicted class, and the probability of each class, or of these two."""
    whole = all(of.probabilities is not None for of in of_models.values())
    columns = [f"probability_{label}" for label in test.classes] if whole else said.BRIEF
    rows = [
        [name, path, test.classes[label], test.classes[guess], *row]
        for name, of in of_models.items()
        for path, label, guess, row in zip(test.paths, test.labels, of.predicted, of.numbers, strict=True)
    ]
    files.write_csv("plots/predictions.csv", ["model", "path", "actual", "predicted", *columns], rows)
    predicted = {titles[name]: of.predicted for name, of in of_models.items()}
    pictures.confusion(test.labels, predicted, test.classes, "plots/confusion.png")


def roc_curves(test: Folder, of_model: Said) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The ROC curve of each class that has test images against the rest; of many classes, of those with the lowest recall.

    A curve has at most `POINTS` points, its ends among them.
    """
    assert of_model.probabilities is not None
    counts = np.bincount(test.labels, minlength=len(test.classes))
    hits = np.bincount(test.labels, of_model.predicted == test.labels, len(counts))
    present = np.flatnonzero(counts)
    chosen = np.sort(present[np.argsort(hits[present] / counts[present], kind="stable")][:CURVES])
    found = {}
    for k in chosen:
        false, true, _ = roc_curve(test.labels == k, of_model.probabilities[:, k])
        at = np.unique(np.linspace(0, len(false) - 1, min(POINTS, len(false))).round().astype(np.int64))
        found[test.classes[k]] = (false[at], true[at])
    return found


def write_roc(titles: dict[str, str], curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]) -> None:
    """Each model's ROC curves, as CSV and as a chart."""
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
        (name, calibrated): metrics.reliability(test.labels, of, bins)
        for name, of_model in answers.items()
        for calibrated, of in (("yes", of_model.said), ("no", of_model.raw))
    }
    rows = [(*key, *row) for key, table in tables.items() for row in table]
    files.write_csv("plots/reliability.csv", ("model", "calibrated", *metrics.Reliability._fields), rows)
    charted = {title: (tables[name, "yes"], tables[name, "no"]) for name, title in titles.items()}
    pictures.reliability(charted, "plots/reliability.png")


def write_risk(test: Folder, titles: dict[str, str], of_models: dict[str, Said]) -> None:
    """How often each model is wrong about the images that it is surest of, as CSV and as a chart."""
    curves = {name: metrics.risk_coverage(of.predicted == test.labels, of.confidence) for name, of in of_models.items()}
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
