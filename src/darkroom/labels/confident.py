"""Confident learning (Northcutt, Jiang and Chuang 2021): from probabilities to the labels that are probably wrong."""

import numpy as np

ROUNDING = 1e-6  # by which a probability may miss a threshold that it equals


def own(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of each label, float (N,): the lower, the more the label looks wrong. The paper's self-confidence.

    Args:
        probabilities: Out-of-sample, float (N, K).
        labels: int (N,), of the K classes.
    """
    found: np.ndarray = probabilities[np.arange(len(labels)), labels]
    return found


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which labels are probably wrong, bool (N,): as many as `count_wrong` says, those with the lowest probability.

    A label that is the most probable class itself is no suspect.

    Args:
        probabilities: Out-of-sample, float (N, K).
        labels: int (N,), of the K classes.
    """
    found = np.zeros(len(labels), bool)
    found[np.argsort(own(probabilities, labels), kind="stable")[: count_wrong(probabilities, labels)]] = True
    return found & (probabilities.argmax(1) != labels)


def count_wrong(probabilities: np.ndarray, labels: np.ndarray) -> int:
    """How many labels are probably wrong: the images off the diagonal of the confident joint.

    An image is confidently of a class if it has at least the mean probability of the images with that label; of several such
    classes, of the most probable one. It counts if that is another class than its label, and its label is not the most probable
    class of all.

    Args:
        probabilities: Out-of-sample, float (N, K).
        labels: int (N,), of the K classes. A class may have no image: then none is confidently of it.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    means = np.bincount(labels, own(probabilities, labels), len(counts)) / np.maximum(counts, 1)
    reached = probabilities >= np.where(counts > 0, np.maximum(means - ROUNDING, ROUNDING), np.inf)
    guess = np.where(reached, probabilities, -1).argmax(1)
    return int((reached.any(1) & (guess != labels) & (probabilities.argmax(1) != labels)).sum())
