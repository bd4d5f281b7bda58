"""What several seeds of both sides say about the change itself. Without them, a comparison is of two trained models."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from darkroom.comparison import verdicts
from darkroom.comparison.verdicts import ClassChange, Headline
from darkroom.evaluation.seed_runs import Runs, Values, Welch, welch
from darkroom.results.revision import Revision
from darkroom.system.markdown import abbreviated, code

GATE = 5  # seeds on each side; with three, Welch's test let a fall by 22 points pass
DIFFERENT = "the two were tested on different images, labels or classes"
# Metrics that are computed with a param of the stage evaluate: with another value they are another metric.
COMPUTED_WITH = {"merged_accuracy": "merge", "ece": "bins"}


@dataclass(frozen=True)
class OverSeeds:
    """The verdicts over seeds, by Welch's t test, on test images that are the same on both sides.

    Attributes:
        missing: Why there are none, as a clause in Markdown. "" if there are some.
        base, head: Numbers of seeds.
        headlines: The metrics. Base and head are means over seeds. There is no p if neither side varies over its seeds.
        classes: The classes that changed by more than chance. Base and head are means over seeds.
        left_out: Metrics that cannot be compared, because base and head compute them with different params.
    """

    missing: str = ""
    base: int = 0
    head: int = 0
    headlines: list[Headline] = field(default_factory=list)
    classes: list[ClassChange] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def judge(base: Revision, head: Revision, same_images: bool) -> OverSeeds:
    """The verdicts over seeds. `same_images`: both sides were tested on the same images, labels and classes."""
    if not same_images:
        return OverSeeds(DIFFERENT)
    before, after = base.runs, head.runs
    if before is None or after is None:
        return OverSeeds(
            " and ".join(f"{code(abbreviated(side.name))} has {side.no_runs}" for side in (base, head) if side.no_runs)
        )
    left_out = [
        metric for metric, key in COMPUTED_WITH.items() if base.params["evaluate"][key] != head.params["evaluate"][key]
    ]
    headlines = [
        verdicts.judge(model, metric, test.difference, test.two_sided)
        for model, metric, test in _tests(before.metrics, after.metrics)
        if metric not in left_out
    ]
    count = head.predictions.actual.count
    classes = [
        ClassChange(
            model, label, count(label), *test.difference[:2], 1.0 if math.isnan(test.two_sided) else test.two_sided
        )
        for model, label, test in _tests(before.recalls, after.recalls)
    ]
    return OverSeeds("", len(before.seeds), len(after.seeds), headlines, verdicts.class_changes(classes), left_out)


def falls(base: Runs, head: Runs) -> dict[tuple[str, str | None], float]:
    """One-sided p values for the gate, by model and class (None for all classes). Small if head is worse.

    What varies over the seeds of neither side has none. There are none at all with fewer than `GATE` seeds on a side.
    """
    if min(len(base.seeds), len(head.seeds)) < GATE:
        return {}
    accuracies = (
        {model: {"accuracy": each["accuracy"]} for model, each in side.metrics.items()} for side in (base, head)
    )
    tests = [
        *((model, None, test.less) for model, _, test in _tests(*accuracies)),
        *((model, label, test.less) for model, label, test in _tests(base.recalls, head.recalls)),
    ]
    return {(model, label): p for model, label, p in tests if not math.isnan(p)}


def _tests(base: Values, head: Values) -> Iterator[tuple[str, str, Welch]]:
    """Welch's test of each metric, or of each class, of each model that both sides have."""
    for model, values in head.items():
        for name, found in values.items():
            if name in base.get(model, {}):
                yield model, name, welch(base[model][name], found)
