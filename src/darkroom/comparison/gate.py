"""The gate of `darkroom compare`: whether it ends with exit code 1."""

import math
from collections.abc import Mapping, Sequence

from darkroom.comparison.compare import GONE, NEW, Comparison, Headline
from darkroom.evaluation import metrics
from darkroom.system.errors import UserError

ROUNDING = 1e-9  # in floats, 1.0 - 0.95 is slightly more than 0.05


def drops(texts: Sequence[str]) -> dict[str, float]:
    """The values METRIC=DROP of the option `--max-drop`, as metric -> drop.

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


def failures(comparison: Comparison, fail_on_worse: bool, max_drop: Mapping[str, float]) -> list[str]:
    """The reasons for exit code 1, one sentence each. Empty if there is none.

    Args:
        comparison: The comparison of base and head.
        fail_on_worse: Fail if there is evidence, one-sided at 5 %, that the accuracy of a model is worse in head.
        max_drop: Metric -> how far it may fall, whether that is chance or not. For the calibration error: how far it may rise.

    Raises:
        UserError: A metric of `max_drop` is not in the comparison, or cannot be computed.
    """
    compared = [line for line in comparison.headlines if line.verdict not in (NEW, GONE)]
    known = {line.metric for line in compared}
    if (fail_on_worse or max_drop) and not compared:
        return ["base and head have no model in common, so that it is unknown whether head is worse"]
    if unknown := sorted(max_drop.keys() - known):
        raise UserError(
            f"--max-drop {unknown[0]}: this comparison has no such metric (macro_f1, auroc and ece need the same classes on "
            f"both sides): name one of {', '.join(sorted(known))}"
        )
    reasons = [
        f"{model}: the accuracy is worse (mid-p {p:.2g}, one-sided, adjusted by Holm's method; "
        "the verdicts in the table are two-sided)"
        for model, p in comparison.gate.items()
        if fail_on_worse and p < metrics.LEVEL
    ]
    reasons += [
        f"{line.model}: {line.metric} is worse by {drop:.4g}, more than {max_drop[line.metric]:g}"
        for line in compared
        if line.metric in max_drop and (drop := _drop(line)) > max_drop[line.metric] + ROUNDING
    ]
    return reasons


def _drop(line: Headline) -> float:
    """By how much a metric is worse in head.

    Raises:
        UserError: It cannot be computed.
    """
    drop = line.difference.base - line.difference.head
    if math.isnan(drop):
        raise UserError(f"--max-drop {line.metric}: it cannot be computed on these test images: leave this option out")
    return -drop if line.metric == "ece" else drop
