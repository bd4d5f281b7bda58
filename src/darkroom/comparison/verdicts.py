"""The verdicts of a comparison: what better, worse and no evidence are said of.

Those of the two trained models come from paired tests (evaluation/paired.py), those over seeds from Welch's t test
(over_seeds.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from darkroom.evaluation import metrics
from darkroom.evaluation.bootstrap import Difference

NEW, GONE = "new in head", "only in base"


@dataclass(frozen=True)
class Headline:
    """One metric of one model, on the test images that both sides have.

    Attributes:
        model: Its name in params.yaml.
        metric: A key of `titles.METRICS`.
        difference: The metric in base and in head. Also the interval of the difference, NaN if there is none.
        p: The two-sided p value of the test. None if the metric is not defined, or only one side has it.
        verdict: "better", "worse" or "no evidence", by p at 5 %. NEW or GONE if only one side has the model. None without a p.
    """

    model: str
    metric: str
    difference: Difference
    p: float | None
    verdict: str | None


@dataclass(frozen=True)
class ClassChange:
    """A class in which the accuracy of a model changed by more than chance.

    Attributes:
        model: Its name in params.yaml.
        label: The class.
        images: Number of shared test images of the class.
        base, head: The share of them about which the model is right.
        p: The two-sided p value of the test, adjusted for all models and classes by Holm's method.
    """

    model: str
    label: str
    images: int
    base: float
    head: float
    p: float


@dataclass(frozen=True)
class NewModel:
    """A model that only head has, on the test images that both sides have.

    Attributes:
        model: Its name in params.yaml.
        accuracy: The share of images about which it is right.
        weakest, recall: The class of which it finds the smallest share, and that share.
        beside: The most accurate of head's other models. None if base and head have no model in common.
        other: The accuracy of that model.
        p: The two-sided p value of the paired test of the two accuracies.
    """

    model: str
    accuracy: float
    weakest: str
    recall: float
    beside: str | None
    other: float | None
    p: float | None


@dataclass(frozen=True)
class GateTest:
    """A test of whether head is no worse: for the accuracy of a model, or for its accuracy in one class.

    Attributes:
        model: Its name in params.yaml.
        label: The class; None for all classes.
        p: One-sided and adjusted (`adjusted_for_gate`). Small if head is worse.
        over_seeds: Whether it is Welch's test of the means over seeds. Otherwise it is the paired test of the two trained models.
    """

    model: str
    label: str | None
    p: float
    over_seeds: bool = False


def judge(model: str, metric: str, difference: Difference, p: float) -> Headline:
    """The headline of a metric that both sides have. `p`: the two-sided p value; NaN if there is none."""
    if math.isnan(p):
        return Headline(model, metric, difference, None, None)
    if p >= metrics.LEVEL:
        return Headline(model, metric, difference, p, "no evidence")
    better = (difference.head > difference.base) != (metric == "ece")
    return Headline(model, metric, difference, p, "better" if better else "worse")


def class_changes(tested: Sequence[ClassChange]) -> list[ClassChange]:
    """The classes that changed by more than chance, adjusted by Holm's method over all that were tested."""
    adjusted = metrics.holm([change.p for change in tested])
    changes = [replace(change, p=p) for change, p in zip(tested, adjusted, strict=True)]
    return [change for change in changes if change.p < metrics.LEVEL]


def adjusted_for_gate(whole: Sequence[GateTest], of_classes: Sequence[GateTest]) -> list[GateTest]:
    """The tests of all classes together and those of each class, with adjusted p values.

    The two families share the level of 5 % equally: the p values are adjusted by Holm's method within each family, and doubled.
    """
    return [
        replace(test, p=min(1.0, 2 * p))
        for family in (whole, of_classes)
        for test, p in zip(family, metrics.holm([test.p for test in family]), strict=True)
    ]
