"""Differences between two independent sets of images, such as test and the images of another site. Arrays in, numbers out.

The interval of a difference is put together from the interval of each side: for shares of images that is Newcombe's hybrid score
interval (1998, method 10), and for other metrics its generalisation (MOVER, Zou and Donner 2008). Groups count as they do in
the interval of each side.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from scipy import optimize, stats

from darkroom.evaluation.metrics import wilson

FEWEST_IMAGES = 30  # with fewer the bootstrap's intervals are too short
FEWEST_UNITS = 10  # groups, or images of a class: with fewer there is no verdict
FEWEST_OF_A_CLASS = 5  # images of each class, for means over classes

FARTHEST = 38.0  # standard deviations; beyond, a p value is 0 in floating point


class Share(NamedTuple):
    """A share of images, and the number of independent images that tell as much (`metrics.effective_count`)."""

    value: float
    effective: float


def difference(new: Mapping[str, float], old: Mapping[str, float]) -> dict[str, float]:
    """`new` minus `old` with its interval, without one if a side has none.

    Args:
        new, old: value, low and high of a metric, on independent images.

    Returns:
        value, and low and high, the ends of the interval.
    """
    change = new["value"] - old["value"]
    if "low" not in new or "low" not in old:
        return {"value": change}
    below = math.hypot(new["value"] - new["low"], old["high"] - old["value"])
    above = math.hypot(new["high"] - new["value"], old["value"] - old["low"])
    return {"value": change, "low": change - below, "high": change + above}


def p_value(new: Share, old: Share) -> float:
    """The two-sided p value of the hypothesis that two shares are equal: at its level Newcombe's interval just reaches zero."""
    high, low = sorted((new, old), reverse=True)
    change = high.value - low.value
    if change == 0:
        return 1.0

    def room(z: float) -> float:
        """How far the interval at `z` standard deviations stays away from zero."""
        return change - math.hypot(high.value - wilson(*high, z)[0], wilson(*low, z)[1] - low.value)

    if room(FARTHEST) > 0:
        return 0.0
    return float(2 * stats.norm.sf(optimize.brentq(room, 0.0, FARTHEST)))
