"""The gate of `darkroom compare`: whether it ends with exit code 1."""

import math
from collections.abc import Mapping, Sequence

from darkroom.comparison.compare import Comparison
from darkroom.comparison.verdicts import GONE, NEW, GateTest, Headline
from darkroom.evaluation import metrics, seed_runs
from darkroom.results.revision import Revision
from darkroom.system import dvc, git
from darkroom.system.errors import UserError
from darkroom.system.markdown import code

ROUNDING = 1e-9  # in floats, 1.0 - 0.95 is slightly more than 0.05


def drops(texts: Sequence[str]) -> dict[str, float]:
    """The values METRIC=DROP or MODEL.METRIC=DROP of the option `--max-drop`, as metric -> drop.

    Raises:
        UserError: A value has another form.
    """
    found = {}
    for text in texts:
        metric, _, drop = text.partition("=")
        try:
            found[metric] = float(drop)
        except ValueError:
            found[metric] = math.nan
        if not 0 <= found[metric] < math.inf:
            raise UserError(f"--max-drop {text}: say a metric and how far it may fall, as in accuracy=0.01")
    return found


def refuse_same(base: Revision, head: Revision) -> None:
    """Refuse a gate that compares results with themselves: it would let everything pass.

    Raises:
        UserError: Both sides are the same commit, or the work tree has the results that the commit `base` has.
    """
    if (head.commit or dvc.commit("HEAD")) != base.commit:
        return
    paths = ("params.yaml", "dvc.lock", "metrics", "plots", "data/manifest.csv", f":(exclude){seed_runs.PATH}")
    if head.commit or not git.read("status", "--porcelain", "--", *paths):
        raise UserError(
            f"{base.name} and {head.name} have the same results, so that the gate would let everything pass: name the BASE to "
            "compare with, such as HEAD~1 or origin/main"
        )


def watched(fail_on: str | None, comparison: Comparison) -> set[str]:
    """The models that `--fail-on` watches: all for "worse", one for "worse:MODEL", none without the option.

    Raises:
        UserError: The value has another form, or the comparison has no such model.
    """
    if fail_on is None:
        return set()
    word, _, model = fail_on.partition(":")
    known = {test.model for test in comparison.gate}
    if word != "worse" or (model and model not in known):
        names = " or ".join(f"worse:{name}" for name in sorted(known))
        raise UserError(
            f"--fail-on {fail_on}: the one thing to fail on is 'worse', for all models or as {names} for one"
        )
    return {model} if model else known


def failures(comparison: Comparison, fail_on: str | None, max_drop: Mapping[str, float]) -> list[str]:
    """The reasons for exit code 1, one sentence each. Empty if there is none.

    Args:
        comparison: The comparison of base and head.
        fail_on: "worse" or "worse:MODEL": fail if there is evidence, one-sided at 5 %, that the accuracy of a model, or its
            accuracy in a class, is worse in head. It is about the means over seeds where both sides have enough of them, and
            otherwise about the two trained models.
        max_drop: METRIC or MODEL.METRIC -> how far it may fall, whether that is chance or not. For the calibration error: how
            far it may rise.

    Raises:
        UserError: An option names a model or a metric that is not in the comparison, or one that cannot be computed.
    """
    compared = [line for line in comparison.headlines if line.verdict not in (NEW, GONE)]
    if (fail_on or max_drop) and not compared:
        return ["base and head have no model in common, so that it is unknown whether head is worse"]
    known = {name for line in compared for name in (line.metric, f"{line.model}.{line.metric}")}
    if unknown := sorted(max_drop.keys() - known):
        raise UserError(
            f"--max-drop {unknown[0]}: this comparison has no such metric (macro_f1, auroc and ece need the same classes on "
            f"both sides, and auroc the probability of each class): name one of {', '.join(sorted(known))}"
        )
    models = watched(fail_on, comparison)
    reasons = [_worse(test, comparison) for test in comparison.gate if test.model in models and test.p < metrics.LEVEL]
    reasons += [
        f"{line.model}: {line.metric} is worse by {drop:.4g}, more than {max_drop[name]:g}"
        for line in compared
        for name in (line.metric, f"{line.model}.{line.metric}")
        if name in max_drop and (drop := _drop(line)) > max_drop[name] + ROUNDING
    ]
    return reasons


def _worse(test: GateTest, comparison: Comparison) -> str:
    """The sentence about a test that finds head worse."""
    seeds = comparison.over_seeds
    how = (
        f"p {test.p:.2g} over {seeds.base} and {seeds.head} seeds, by Welch's t test"
        if test.over_seeds
        else f"mid-p {test.p:.2g} of the two trained models"
    )
    where = f"in class {code(test.label)} " if test.label else ""
    return (
        f"{test.model}: the accuracy {where}is worse ({how}, one-sided, adjusted by Holm's method; the verdicts in the table are "
        "two-sided)"
    )


def _drop(line: Headline) -> float:
    """By how much a metric is worse in head.

    Raises:
        UserError: It cannot be computed.
    """
    drop = line.difference.base - line.difference.head
    if math.isnan(drop):
        raise UserError(f"--max-drop {line.metric}: it cannot be computed on these test images: leave this option out")
    return -drop if line.metric == "ece" else drop
