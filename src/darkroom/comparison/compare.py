"""Compare two revisions, experiments or the work tree: what differs, and whether it is more than chance."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from darkroom.comparison import changed, data_diff, look_alikes, over_seeds, verdicts
from darkroom.comparison.changed import Changed
from darkroom.comparison.look_alikes import LookAlikes
from darkroom.comparison.over_seeds import OverSeeds
from darkroom.comparison.verdicts import GONE, NEW, ClassChange, GateTest, Headline, NewModel
from darkroom.data import groups
from darkroom.evaluation import bootstrap, metrics, paired
from darkroom.evaluation.bootstrap import Difference
from darkroom.evaluation.said import Said
from darkroom.results.revision import Predictions, Revision
from darkroom.system import lock
from darkroom.system.errors import UserError
from darkroom.system.trees import leaves

FEW = 30  # images; with fewer, the bootstrap's intervals are too short and are left out
RARE = 5  # images of a class; with fewer, the interval of a mean over classes is too short and is left out
RESAMPLES = 2000  # of the paired bootstrap; the ends of an interval then vary by about 2 % of its width

# Model -> what it says in base and in head about the shared images.
Sides = Mapping[str, tuple[Said, Said]]


@dataclass(frozen=True)
class Flip:
    """A test image about which a model is right on one side and wrong on the other.

    Attributes:
        model: Its name in params.yaml.
        path: The image's path in head, `class/.../name`.
        actual: The image's class.
        base, head: The predicted classes.
    """

    model: str
    path: str
    actual: str
    base: str
    head: str


@dataclass(frozen=True)
class Shared:
    """What the models of two revisions say about the N test images that both have, over the K classes of both.

    Attributes:
        rows: int64 (N,) each, the row of each image in the predictions of base and of head.
        unknown: Number of further images that both have, but with a class that only one side knows.
        classes: K names, sorted.
        labels: int64 (N,), head's class of each image.
        base, head: Model -> what it says.
    """

    rows: tuple[np.ndarray, np.ndarray]
    unknown: int
    classes: list[str]
    labels: np.ndarray
    base: dict[str, Said]
    head: dict[str, Said]

    @property
    def both(self) -> dict[str, tuple[Said, Said]]:
        """What the models that both sides have say in base and in head."""
        return {model: (self.base[model], self.head[model]) for model in self.head if model in self.base}

    @property
    def same(self) -> list[str]:
        """The models whose probabilities are the same on both sides."""
        return [model for model, (base, head) in self.both.items() if base.same(head)]


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        base, head: The names of the two sides.
        titles: Model -> its title in tables, for the models of both sides.
        images: Numbers of test images. `base` and `head`: all images of each side. `shared`: images that both sides have.
            `unknown`: images that both sides have, but with a class that only one side knows. They do not count as shared.
            `groups`: groups of the shared images; 0 if the data set has none.
        relabelled: Number of shared images that the two sides label differently. Head's label counts for both sides.
        headlines, classes, flips: These are about the shared images.
        gate: As `gate_tests` returns it.
        params: Dotted key -> its values in base and in head, as JSON. None if a side has no such key.
        data: What happened to the images of data/raw.
        stages: The stages whose command, dependencies or params differ.
        machines: The kind of machine that made the results of base and of head. "" if they are from before it was recorded.
        look_alikes: The look-alikes across train and test, and the accuracies without them.
        over_seeds: The verdicts over seeds. The other verdicts are about the two trained models.
        changed: The code, the versions of packages and the other files that differ.
        same: The models with the same predictions on both sides.
        new_models: How the models that only head has compare with the best of the others.
    """

    base: str
    head: str
    titles: dict[str, str]
    images: dict[str, int]
    relabelled: int
    headlines: list[Headline]
    classes: list[ClassChange]
    flips: list[Flip]
    gate: list[GateTest]
    params: dict[str, tuple[str | None, str | None]]
    data: list[data_diff.Change]
    stages: list[str]
    machines: tuple[str, str] = ("", "")
    look_alikes: LookAlikes = field(default_factory=LookAlikes)
    over_seeds: OverSeeds = field(default_factory=OverSeeds)
    changed: Changed = field(default_factory=Changed)
    same: list[str] = field(default_factory=list)
    new_models: list[NewModel] = field(default_factory=list)


def compare(base: Revision, head: Revision) -> Comparison:
    """Compare two revisions on the test images that both have.

    Raises:
        UserError: They have no test image in common.
    """
    before, after = base.predictions, head.predictions
    shared = on_shared(base, head)
    labels, both, classes, (rows_before, rows_after) = shared.labels, shared.both, shared.classes, shared.rows
    names = np.array(after.groups)[rows_after] if any(after.groups) else np.array(before.groups)[rows_before]
    units = groups.units(names.tolist())
    right = accuracies(classes, head.params["evaluate"]["merge"])
    bins = head.params["evaluate"]["bins"] if before.classes == after.classes else None
    by_class = class_tests(labels, units, both, classes)
    relabelled = int((np.array(after.actual)[rows_after] != np.array(before.actual)[rows_before]).sum())
    same_images = len(before.keys) == len(after.keys) == len(labels) and not relabelled
    seeds = over_seeds.judge(base, head, same_images and before.classes == after.classes)
    falls = over_seeds.falls(base.runs, head.runs) if base.runs and head.runs and not seeds.missing else {}
    return Comparison(
        base=base.name,
        head=head.name,
        titles={**base.titles, **head.titles},
        images={
            "base": len(before.keys),
            "head": len(after.keys),
            "shared": len(labels),
            "unknown": shared.unknown,
            "groups": int(units.max()) + 1 if names.any() else 0,
        },
        relabelled=relabelled,
        headlines=list(_headlines(labels, units, shared.base, shared.head, right, bins)),
        classes=verdicts.class_changes([change for change, _ in by_class]),
        flips=[flip for model in both for flip in flips(model, labels, both[model], classes, after.paths, rows_after)],
        gate=gate_tests(labels, units, both, by_class, falls),
        params=param_changes(base.params, head.params),
        data=data_diff.diff(base.manifest, head.manifest),
        stages=changed_stages(base.lock, head.lock),
        machines=(base.scores.get("machine", ""), head.scores.get("machine", "")),
        look_alikes=look_alikes.compare(base, head, shared.rows, labels, units, both, right),
        over_seeds=seeds,
        changed=changed.between(base, head),
        same=shared.same,
        new_models=list(_new_models(shared, units)),
    )


def on_shared(base: Revision, head: Revision) -> Shared:
    """What the models of both sides say about the test images that both have.

    Raises:
        UserError: They have no test image in common.
    """
    before, after = base.predictions, head.predictions
    pairs, unknown = shared_images(base, head)
    rows_before, rows_after = (np.array(side) for side in zip(*pairs, strict=True))
    classes = sorted({*before.classes, *after.classes})
    return Shared(
        (rows_before, rows_after),
        unknown,
        classes,
        np.searchsorted(classes, np.array(after.actual)[rows_after]),
        {model: _over_classes(before, model, rows_before, classes) for model in before.said},
        {model: _over_classes(after, model, rows_after, classes) for model in after.said},
    )


def shared_images(base: Revision, head: Revision) -> tuple[list[tuple[int, int]], int]:
    """The test images that both sides have.

    Returns:
        The row in base and the row in head of each shared image with a class that both sides know. Also the number of shared
        images with a class that only one side knows.

    Raises:
        UserError: No image is left to compare.
    """
    before, after = base.predictions, head.predictions
    row_of = {key: row for row, key in enumerate(before.keys)}
    known = set(before.classes) & set(after.classes)
    both = [(row_of[key], row) for row, key in enumerate(after.keys) if key in row_of]
    pairs = [(old, new) for old, new in both if before.actual[old] in known and after.actual[new] in known]
    if not pairs:
        why = f"{len(both)} test images, but none with a class that both know" if both else "no test image"
        raise UserError(f"{base.name} and {head.name} share {why}, so that they cannot be compared")
    return pairs, len(both) - len(pairs)


def _over_classes(predictions: Predictions, model: str, rows: np.ndarray, classes: list[str]) -> Said:
    """What a model says about the images in `rows`, over the classes of both sides.

    A class that this side does not know has probability 0.
    """
    of, place = predictions.said[model].of(rows), np.searchsorted(classes, predictions.classes)
    every = None
    if of.probabilities is not None:
        every = np.zeros((len(rows), len(classes)))
        every[:, place] = of.probabilities
    return replace(of, predicted=place[of.predicted], probabilities=every)


def _headlines(
    labels: np.ndarray,
    units: np.ndarray,
    in_base: Mapping[str, Said],
    in_head: Mapping[str, Said],
    right: Mapping[str, bootstrap.Right],
    bins: int | None,
) -> Iterator[Headline]:
    """The headlines of the models that both sides have, then of those that only head has, then of those that only base has."""
    for model, of in in_head.items():
        if model in in_base:
            yield from compare_metrics(model, labels, units, (in_base[model], of), right, bins)
    for model in sorted(in_head.keys() - in_base.keys()):
        yield from one_sided(model, labels, in_head[model], NEW, right)
    for model in sorted(in_base.keys() - in_head.keys()):
        yield from one_sided(model, labels, in_base[model], GONE, right)


def is_right(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Whether each prediction is right, bool (N,)."""
    right: np.ndarray = predicted == labels
    return right


def accuracies(classes: list[str], merge: str | None) -> dict[str, bootstrap.Right]:
    """The metrics that count right predictions: the accuracy and, if `merge` merges any classes, the merged accuracy.

    Returns:
        Metric -> function that says which predictions are right.
    """
    merged = metrics.merge_classes(classes, merge)
    _, group = np.unique(merged, return_inverse=True)

    def is_right_merged(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        right: np.ndarray = group[predicted] == group[labels]
        return right

    return {"accuracy": is_right, **({"merged_accuracy": is_right_merged} if len(set(merged)) < len(merged) else {})}


def compare_metrics(
    model: str,
    labels: np.ndarray,
    units: np.ndarray,
    sides: tuple[Said, Said],
    right: Mapping[str, bootstrap.Right],
    bins: int | None,
) -> Iterator[Headline]:
    """The metrics of one model that both sides have. Each verdict is that of a paired test (paired.py).

    Args:
        model: Its name.
        labels: int64 (N,).
        units: int64 (N,), the group of each image, or the image itself.
        sides: What it says in base and in head.
        right: As `accuracies` returns it.
        bins: Number of bins of the calibration error. None if the two sides have different classes. Macro F1, AUROC and
            calibration error are then left out, because their values for different classes cannot be compared. AUROC is left
            out, too, where a side has no probability of each class.
    """
    base, head = sides
    statistics = {metric: bootstrap.accuracy(function) for metric, function in right.items()}
    tests = {
        metric: paired.accuracy_test(function(labels, base.predicted), function(labels, head.predicted), units)
        for metric, function in right.items()
    }
    if bins:
        statistics["macro_f1"] = bootstrap.macro_f1
        exchanged: dict[str, paired.Exchanged] = {"macro_f1": paired.macro_f1, "ece": paired.ece(bins)}
        if base.probabilities is not None and head.probabilities is not None:
            statistics["auroc"], exchanged["auroc"] = bootstrap.auroc, paired.auroc
        tests |= paired.metric_tests(exchanged, labels, base, head, units)
    differences = bootstrap.differences(statistics, labels, base, head, units, RESAMPLES)
    if bins:  # no interval: a resample of a calibrated model looks less calibrated than the model is
        before, after = (metrics.ece(labels, side, bins) for side in sides)
        differences["ece"] = Difference(before, after, math.nan, math.nan)
    rare = np.bincount(labels)[np.unique(labels)].min() < RARE
    for metric, difference in differences.items():
        if len(labels) < FEW or (rare and metric not in right):
            difference = difference._replace(low=math.nan, high=math.nan)
        yield verdicts.judge(model, metric, difference, tests[metric].two_sided)


def one_sided(
    model: str, labels: np.ndarray, of: Said, verdict: str, right: Mapping[str, bootstrap.Right]
) -> Iterator[Headline]:
    """The accuracies of a model that only one side has. `verdict` is NEW or GONE."""
    for metric, function in right.items():
        value = float(function(labels, of.predicted).mean())
        base, head = (math.nan, value) if verdict == NEW else (value, math.nan)
        yield Headline(model, metric, Difference(base, head, math.nan, math.nan), None, verdict)


def _new_models(shared: Shared, units: np.ndarray) -> Iterator[NewModel]:
    """Each model that only head has, beside the most accurate of head's other models that base has, too."""
    right = {model: is_right(shared.labels, of.predicted) for model, of in shared.head.items()}
    best = max(shared.both, key=lambda model: right[model].sum(), default=None)
    for model in sorted(right.keys() - shared.both.keys()):
        recalls = {
            shared.classes[index]: float(right[model][shared.labels == index].mean())
            for index in np.unique(shared.labels)
        }
        weakest = min(recalls, key=lambda label: recalls[label])
        accuracy = float(right[model].mean())
        if best is None:
            yield NewModel(model, accuracy, weakest, recalls[weakest], None, None, None)
        else:
            p = paired.accuracy_test(right[best], right[model], units).two_sided
            yield NewModel(model, accuracy, weakest, recalls[weakest], best, float(right[best].mean()), p)


def class_tests(
    labels: np.ndarray, units: np.ndarray, both: Sides, classes: list[str]
) -> list[tuple[ClassChange, paired.PValues]]:
    """The paired test on the images of each class, for each model. The p values are not adjusted."""
    tested = []
    for model, sides in both.items():
        base, head = (is_right(labels, side.predicted) for side in sides)
        for index in np.unique(labels):
            members = labels == index
            test = paired.accuracy_test(base[members], head[members], units[members])
            before, after = float(base[members].mean()), float(head[members].mean())
            change = ClassChange(model, classes[index], int(members.sum()), before, after, test.two_sided)
            tested.append((change, test))
    return tested


def gate_tests(
    labels: np.ndarray,
    units: np.ndarray,
    both: Sides,
    by_class: Sequence[tuple[ClassChange, paired.PValues]],
    falls: Mapping[tuple[str, str | None], float],
) -> list[GateTest]:
    """One-sided tests that head is no worse than base: for each model, and for each model in each class.

    They are paired tests of the two trained models, except where `falls` has a p value over seeds (`over_seeds.falls`).
    """

    def test(model: str, label: str | None, p: float) -> GateTest:
        return GateTest(model, label, falls.get((model, label), p), (model, label) in falls)

    whole = []
    for model, sides in both.items():
        base, head = (is_right(labels, side.predicted) for side in sides)
        whole.append(test(model, None, paired.accuracy_test(base, head, units).less))
    of_classes = [test(change.model, change.label, found.less) for change, found in by_class]
    return verdicts.adjusted_for_gate(whole, of_classes)


def flips(
    model: str,
    labels: np.ndarray,
    sides: tuple[Said, Said],
    classes: list[str],
    paths: Sequence[str],
    rows: np.ndarray,
) -> Iterator[Flip]:
    """The images about which a model is right on one side and wrong on the other.

    Those that are wrong in head come first. Within each group the order is by path.

    Args:
        model: Its name.
        labels: int64 (N,), the classes of the shared images.
        sides: What it says in base and in head.
        classes: K names.
        paths: The paths of head's test images.
        rows: int64 (N,), the index in `paths` of each shared image.
    """
    base, head = (side.predicted for side in sides)
    changed = np.flatnonzero((base == labels) != (head == labels))
    for index in sorted(changed, key=lambda index: (head[index] == labels[index], paths[int(rows[index])])):
        actual, before, after = (classes[int(indices[index])] for indices in (labels, base, head))
        yield Flip(model, paths[int(rows[index])], actual, before, after)


def param_changes(base: Any, head: Any) -> dict[str, tuple[str | None, str | None]]:
    """Dotted key -> its values in base and in head as JSON, for the keys that differ. None if a side has no such key."""
    before, after = ({key: json.dumps(value) for key, value in leaves(tree)} for tree in (base, head))
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def changed_stages(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """The stages whose command, dependencies or params differ in dvc.lock."""
    stages = dict.fromkeys([*base, *head])
    return [stage for stage in stages if lock.inputs(base.get(stage, {})) != lock.inputs(head.get(stage, {}))]
