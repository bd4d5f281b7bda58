"""Two revisions, experiments or the work tree: what differs, and whether it means anything."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from darkroom.comparison import data_diff
from darkroom.comparison.revision import Predictions, Revision
from darkroom.evaluation import bootstrap, metrics
from darkroom.evaluation.titles import MODELS
from darkroom.system import lock
from darkroom.system.errors import UserError
from darkroom.system.trees import leaves

SMALL = 100  # images; on fewer, only a landslide shows
FEW = 30  # images; on fewer, the bootstrap's intervals are too short: of equal models they set 6 to 30 in 100 apart
ROUNDING = 1e-9  # a drop from 1.0 to 0.95 is not more than 0.05, whatever floats say
RESAMPLES = 2000  # of the paired bootstrap; the ends of an interval then wander by about 2 % of their width


@dataclass(frozen=True)
class Headline:
    """One figure of one model, on the images that both test sets hold.

    `p` is McNemar's exact, two-sided, and None where the figure is not an accuracy. `word` is better, worse or no evidence; None
    where neither test nor interval is to be had or to be trusted.
    """

    model: str
    figure: str
    difference: bootstrap.Difference
    p: float | None
    word: str | None


@dataclass(frozen=True)
class ClassChange:
    """A class of which a model gets more or fewer images right than chance explains; `p` is Holm's, over all classes."""

    model: str
    label: str
    images: int
    base: float
    head: float
    p: float


@dataclass(frozen=True)
class Flip:
    """An image that one version has right and the other wrong."""

    model: str
    path: str
    actual: str
    base: str
    head: str


@dataclass(frozen=True)
class Comparison:
    """All that `darkroom compare` says.

    Attributes:
        base, head: The two sides' names.
        images: How many test images `base` and `head` have; how many of them are `shared`, with a class that both know; and
            how many both have whose class is `unknown` to one, which are left out.
        relabelled: How many shared images the two sides label differently; head's label judges both.
        headlines, classes, flips: On the shared images.
        gate: Model -> one-sided mid-p that head's accuracy is no worse, adjusted by Holm's method for the number of models.
        params: Key -> value in base and in head, as JSON; None where a side has no such key.
        data: What happened to the images.
        stages: Those whose recorded inputs or command differ.
    """

    base: str
    head: str
    images: dict[str, int]
    relabelled: int
    headlines: list[Headline]
    classes: list[ClassChange]
    flips: list[Flip]
    gate: dict[str, float]
    params: dict[str, tuple[str | None, str | None]]
    data: list[data_diff.Change]
    stages: list[str]


def compare(base: Revision, head: Revision) -> Comparison:
    """Compare two revisions on what their test sets share.

    Raises:
        UserError: They share no test image.
    """
    mine, theirs = base.predictions, head.predictions
    place = {key: index for index, key in enumerate(mine.keys)}
    known = set(mine.classes) & set(theirs.classes)
    both = [(place[key], index) for index, key in enumerate(theirs.keys) if key in place]
    pairs = [(old, new) for old, new in both if mine.actual[old] in known and theirs.actual[new] in known]
    if not pairs:
        why = f"{len(both)} test images, but no class of them" if both else "no test image"
        raise UserError(f"{base.name} and {head.name} share {why}, so that nothing can be compared")
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    classes = sorted({*mine.classes, *theirs.classes})
    actual = np.array(theirs.actual)[after]
    labels = np.searchsorted(classes, actual)
    chosen = {
        model: (_spread(mine, model, before, classes), _spread(theirs, model, after, classes)) for model in MODELS
    }
    counted = accuracies(classes, head.params["evaluate"]["merge"])
    bins = head.params["evaluate"]["bins"] if mine.classes == theirs.classes else None
    return Comparison(
        base=base.name,
        head=head.name,
        images={
            "base": len(mine.keys),
            "head": len(theirs.keys),
            "shared": len(pairs),
            "unknown": len(both) - len(pairs),
        },
        relabelled=int((actual != np.array(mine.actual)[before]).sum()),
        headlines=[line for model in MODELS for line in headlines(model, labels, *chosen[model], counted, bins)],
        classes=class_changes(labels, chosen, classes),
        flips=[flip for model in MODELS for flip in flips(model, labels, chosen[model], classes, theirs.paths, after)],
        gate=gate(labels, chosen),
        params=param_changes(base.params, head.params),
        data=data_diff.diff(base.manifest, head.manifest),
        stages=changed_stages(base.lock, head.lock),
    )


def _spread(own: Predictions, model: str, rows: np.ndarray, classes: list[str]) -> np.ndarray:
    """Probabilities of the chosen images, float (N, K), in columns of both revisions' classes: 0 where one has no such class."""
    spread = np.zeros((len(rows), len(classes)))
    spread[:, np.searchsorted(classes, own.classes)] = own.probabilities[model][rows]
    return spread


def is_right(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Which answers are right, bool (N,)."""
    right: np.ndarray = probabilities.argmax(1) == labels
    return right


def accuracies(classes: list[str], merge: str | None) -> dict[str, bootstrap.Right]:
    """The headline figures that count right answers: of the classes, and of the groups that they merge into, if they do."""
    merged = metrics.merge_classes(classes, merge)
    _, group = np.unique(merged, return_inverse=True)

    def is_right_merged(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        right: np.ndarray = group[probabilities.argmax(1)] == group[labels]
        return right

    return {"accuracy": is_right, **({"merged_accuracy": is_right_merged} if len(set(merged)) < len(merged) else {})}


def headlines(
    model: str,
    labels: np.ndarray,
    base: np.ndarray,
    head: np.ndarray,
    counted: Mapping[str, bootstrap.Right],
    bins: int | None,
) -> Iterator[Headline]:
    """Each figure, and what can be said of it: of the accuracies by McNemar's exact test, of the rest by the interval.

    Without `bins`, the figures that average over classes or bins are left out: they mean another thing once classes changed.
    """
    statistics = {name: bootstrap.accuracy(right) for name, right in counted.items()}
    if bins:
        statistics |= {"macro_f1": bootstrap.macro_f1, "auroc": bootstrap.auroc}
    for name, found in bootstrap.differences(statistics, labels, base, head, RESAMPLES).items():
        if right := counted.get(name):
            p = float(metrics.mcnemar(right(labels, base), right(labels, head))["p"])
            yield Headline(model, name, found, p, _word(found, p < metrics.LEVEL))
        elif math.isnan(found.low) or len(labels) < FEW:
            yield Headline(model, name, found, None, None)
        else:
            yield Headline(model, name, found, None, _word(found, found.low > 0 or found.high < 0))
    if bins:  # a resample of a calibrated model looks less calibrated than the model is: its interval would misjudge it
        before, after = (metrics.ece(labels, own, bins) for own in (base, head))
        yield Headline(model, "ece", bootstrap.Difference(before, after, math.nan, math.nan), None, None)


def _word(found: bootstrap.Difference, evident: bool) -> str:
    if not evident:
        return "no evidence"
    return "better" if found.head > found.base else "worse"


def gate(labels: np.ndarray, chosen: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """For each model, how well its answers fit with head being no worse: one-sided, small when head is worse."""
    right = {model: [is_right(labels, own) for own in sides] for model, sides in chosen.items()}
    p_values = [metrics.mid_p(int((base & ~head).sum()), int((head & ~base).sum())) for base, head in right.values()]
    return dict(zip(right, metrics.holm(p_values), strict=True))


def class_changes(
    labels: np.ndarray, chosen: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: list[str]
) -> list[ClassChange]:
    """Classes whose share of right answers changed: McNemar's exact test on the images of each, adjusted for their number."""
    found = []
    for model, (base, head) in chosen.items():
        right = is_right(labels, base), is_right(labels, head)
        for index in np.unique(labels):
            own = labels == index
            p = float(metrics.mcnemar(right[0][own], right[1][own])["p"])
            before, after = (float(side[own].mean()) for side in right)
            found.append(ClassChange(model, classes[index], int(own.sum()), before, after, p))
    adjusted = metrics.holm([change.p for change in found])
    changes = [replace(change, p=p) for change, p in zip(found, adjusted, strict=True)]
    return [change for change in changes if change.p < metrics.LEVEL]


def flips(
    model: str,
    labels: np.ndarray,
    sides: tuple[np.ndarray, np.ndarray],
    classes: list[str],
    paths: Sequence[str],
    rows: np.ndarray,
) -> Iterator[Flip]:
    """The images that one version has right and the other wrong: those that got worse first, then by path."""
    base, head = (side.argmax(1) for side in sides)
    changed = np.flatnonzero((base == labels) != (head == labels))
    for index in sorted(changed, key=lambda index: (head[index] == labels[index], paths[int(rows[index])])):
        actual, before, after = (classes[int(which[index])] for which in (labels, base, head))
        yield Flip(model, paths[int(rows[index])], actual, before, after)


def param_changes(base: Any, head: Any) -> dict[str, tuple[str | None, str | None]]:
    """Dotted key -> its value in base and in head, for those that differ."""
    before, after = ({key: json.dumps(value) for key, value in leaves(tree)} for tree in (base, head))
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def changed_stages(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """The stages that ran again between the two: their command, dependencies or params differ in dvc.lock."""
    stages = dict.fromkeys([*base, *head])
    return [stage for stage in stages if lock.inputs(base.get(stage, {})) != lock.inputs(head.get(stage, {}))]


def failures(comparison: Comparison, fail_on_worse: bool, max_drop: Mapping[str, float]) -> list[str]:
    """Why a gate should close: a sentence for each reason.

    Args:
        comparison: Of base and head.
        fail_on_worse: Whether evidence (at 5 %, one-sided) that a model's accuracy is worse is a reason.
        max_drop: Figure -> how far it may fall (an error: rise), whatever chance would do.

    Raises:
        UserError: A figure of `max_drop` is none of the headlines.
    """
    known = {line.figure for line in comparison.headlines}
    if unknown := sorted(max_drop.keys() - known):
        raise UserError(
            f"--max-drop {unknown[0]}: there is no such figure here (those over classes need the same classes on both sides): "
            f"say one of {', '.join(sorted(known))}"
        )
    reasons = [
        f"{model}: the accuracy is worse (mid-p {p:.2g}, one-sided, while the table's words are two-sided; adjusted for "
        f"{len(comparison.gate)} models)"
        for model, p in comparison.gate.items()
        if fail_on_worse and p < metrics.LEVEL
    ]
    for line in comparison.headlines:
        drop = line.difference.base - line.difference.head
        drop = -drop if line.figure == "ece" else drop
        if line.figure in max_drop and math.isnan(drop):
            raise UserError(
                f"--max-drop {line.figure}: it cannot be computed on these test images, so that no gate can use it"
            )
        if line.figure in max_drop and drop > max_drop[line.figure] + ROUNDING:
            reasons.append(f"{line.model}: {line.figure} is worse by {drop:.4g}, more than {max_drop[line.figure]:g}")
    return reasons
