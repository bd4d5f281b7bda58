"""Split-conformal prediction: sets of classes that hold the right one at a chosen error rate (Vovk, Gammerman and Shafer 2005).

The score of an image and a class is 1 - the probability of the class (Sadinle, Lei and Wasserman 2019). This module needs NumPy
alone, so that a model can be used without torch.
"""

import math
from dataclasses import dataclass

import numpy as np

ERROR_RATE = 0.05  # of the sets that `evaluate` reports
UNKNOWN_RATE = 0.01  # of known images that may be called unknown


@dataclass(frozen=True)
class Limits:
    """What decides whether a model answers. `limits_of` computes it from val.

    Attributes:
        scores: float64 (K,), the score up to which each class belongs to the set; infinite if val is too small for it.
        unlikeness: Beyond it an image is called unknown.
    """

    scores: np.ndarray
    unlikeness: float

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes are in the set of each image: bool (N, K), from the probabilities (N, K)."""
        found: np.ndarray = 1 - probabilities <= self.scores
        return found


def sure(in_set: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Whether the set of each image holds its most probable class and no other: bool (N,), from two arrays (N, K).

    Each class has a threshold of its own, so that a single class in the set need not be the most probable one.
    """
    of_predicted = np.take_along_axis(in_set, probabilities.argmax(1)[:, None], axis=1)[:, 0]
    found: np.ndarray = of_predicted & (in_set.sum(1) == 1)
    return found


def limits_of(known: tuple[np.ndarray, np.ndarray, np.ndarray], classes: int, error_rate: float = ERROR_RATE) -> Limits:
    """The limits for an error rate.

    Args:
        known: scores, labels and unlikeness of val images, (V,) each: see `networks.calibration.Calibration`.
        classes: K.
        error_rate: Of the sets, between 0 and 1.
    """
    scores, labels, unlikeness = known
    return Limits(thresholds(scores, labels, classes, error_rate), too_unlike(unlikeness))


def quantile(scores: np.ndarray, error_rate: float) -> float:
    """The value that a new score exceeds with a probability of at most `error_rate`; infinite if there are too few scores.

    Args:
        scores: float (V,), of images of the same kind as the new one.
        error_rate: Between 0 and 1.
    """
    rank = math.ceil(round((len(scores) + 1) * (1 - error_rate), 9))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def thresholds(scores: np.ndarray, labels: np.ndarray, classes: int, error_rate: float) -> np.ndarray:
    """The score up to which each class belongs to the set, float64 (K,).

    A class with enough val images has a threshold of its own, so that the error rate holds in this class. The others share that
    of all val images; for them it holds on average over all classes. It is infinite if even these are too few.

    Args:
        scores: float (V,), of the right class of each val image.
        labels: int64 (V,).
        classes: K.
        error_rate: Between 0 and 1.
    """
    shared = quantile(scores, error_rate)
    own = np.array([quantile(scores[labels == label], error_rate) for label in range(classes)])
    return np.where(np.isfinite(own), own, shared)


def too_unlike(unlikeness: np.ndarray) -> float:
    """The unlikeness beyond which an image is called unknown, from that of the val images (V,).

    It is that of a share of `UNKNOWN_RATE`, or the largest one if they are too few for it.
    """
    limit = quantile(unlikeness, UNKNOWN_RATE)
    return limit if math.isfinite(limit) else float(unlikeness.max())
