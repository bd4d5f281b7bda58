"""Out-of-sample probabilities: each image is judged by a model that has seen neither it nor its group and copies."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from darkroom.data import folds as divide
from darkroom.labels import confident
from darkroom.system.parallel import in_threads

FOLDS = 5
STRENGTHS = (1.0, 10.0, 100.0)  # scikit-learn's C: the higher, the closer the logistic regression keeps to the labels
STEPS = 100  # of L-BFGS at most, so that the time has a bound


def probabilities(features: np.ndarray, labels: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of the classes by models that have not seen the image, and whether its label can be judged by them.

    The strength of the logistic regression is the one of `STRENGTHS` that has the lowest log loss, out of sample, on the labels.

    Args:
        features: float32 (N, D).
        labels: int (N,), of K classes, from 0.
        units: int (N,). The images of a unit are in one fold.

    Returns:
        float (N, K), of rows that sum to 1, and bool (N,). A label cannot be judged if all images of its class are in one fold,
        for example because there is only one. Its row is 0.
    """
    parts, can_judge = _parts(labels, units), np.zeros(len(labels), bool)
    for train, test in parts:
        can_judge[test] = np.isin(labels[test], labels[train])
    if not can_judge.any():
        return np.zeros((len(labels), labels.max() + 1)), can_judge
    with threadpool_limits(1), warnings.catch_warnings():  # sums would differ by the number of threads
        warnings.simplefilter("ignore", ConvergenceWarning)  # after STEPS the order hardly changes
        by_strength = [_out_of_sample(features, labels, parts, strength) for strength in STRENGTHS]
    best = min(by_strength, key=lambda found: _log_loss(found[can_judge], labels[can_judge]))
    best[~can_judge] = 0
    return best, can_judge


def _parts(labels: np.ndarray, units: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The indices of train and test of each fold. There is none if all images are of one unit, or each of another class."""
    folds = min(FOLDS, len(np.unique(units)), np.bincount(labels).max())
    if folds < 2:
        return []
    found = divide.parts(labels, units, folds)
    return [(train, test) for train, test in found if len(test) and len(np.unique(labels[train])) > 1]


def _out_of_sample(
    features: np.ndarray, labels: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]], strength: float
) -> np.ndarray:
    """The probabilities of the classes, float (N, K), from a logistic regression for each of the `parts`."""
    found = np.zeros((len(labels), labels.max() + 1))

    def judge(part: tuple[np.ndarray, np.ndarray]) -> None:
        train, test = part
        model = LogisticRegression(C=strength, max_iter=STEPS).fit(features[train], labels[train])
        found[np.ix_(test, model.classes_)] = model.predict_proba(features[test])

    for _ in in_threads(judge, parts):
        pass
    return found


def _log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy in nats. Probabilities of 0 count as 1e-6."""
    return float(-np.log(confident.own(probabilities, labels).clip(1e-6)).mean())
