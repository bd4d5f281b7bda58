"""Intervals of means that are not those of independent values: of images in groups, and of folds that share data."""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from darkroom.evaluation.metrics import CONFIDENCE


class Mean(NamedTuple):
    """A mean with its interval, and the two-sided p value of the hypothesis that it is 0.

    The last three are NaN if there is one value alone, and if no value differs.
    """

    value: float
    low: float
    high: float
    p: float


def over_images(values: np.ndarray, units: np.ndarray, confidence: float = CONFIDENCE) -> Mean:
    """The mean over images, with Student's interval for units that are drawn whole (a ratio estimate, Cochran 1977, 6.8).

    If each unit is one image, it is the usual t interval, and of differences of two models that of the paired t test.

    Args:
        values: float (N,).
        units: int (N,), the unit of each image, from 0.
        confidence: Of the interval.
    """
    count, mean = int(units.max()) + 1, float(values.mean())
    residuals = np.bincount(units, values - mean)
    error = math.sqrt(count / max(1, count - 1) * float((residuals**2).sum())) / len(values)
    return _student(mean, error, count - 1, confidence)


def over_folds(values: np.ndarray, share: float) -> Mean:
    """The mean over folds, and over repeats of them, by the corrected resampled t test of Nadeau and Bengio (2003).

    The models of two folds learn from nearly the same images, so that their scores go up and down together. The variance of the
    mean of J scores is taken to be (1 / J + share) times that of a score, and not 1 / J of it.

    Args:
        values: float (J,), the score of each fold, or its difference between two models.
        share: The images that judge a fold, over the images that it is trained on.
    """
    count = len(values)
    deviation = float(values.std(ddof=1)) if count > 1 else 0.0
    return _student(float(values.mean()), math.sqrt(1 / count + share) * deviation, count - 1, CONFIDENCE)


def _student(mean: float, error: float, freedom: int, confidence: float) -> Mean:
    if freedom < 1 or not error:
        return Mean(mean, math.nan, math.nan, math.nan)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Mean(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom)))
