"""Confident learning (Northcutt, Jiang and Chuang 2021): from probabilities to the labels that are probably wrong."""

import numpy as np

ROUNDING = 1e-6  # by which a probability may miss a threshold that it equals


def margin(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How well each label fits, float (N,), from 0 to 1: the normalised margin.

    It is 0 if another class is certain, 0.5 if another one is as probable as the label, and 1 if the label is certain.

    Args:
        probabilities: Out-of-sample, float (N, K).
        labels: int (N,), of the K classes.
    """
    rows, others = np.arange(len(labels)), probabilities.copy()
    others[rows, labels] = 0
    return (1 + probabilities[rows, labels] - others.max(1)) / 2


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which labels are probably wrong, bool (N,): the images off the diagonal of the confident joint.

    An image is confidently of a class if it has at least the mean probability of the images with that label; of several such
    classes, of the most probable one. A label is suspected if its image is confidently of another class, and if the label is not
    the most probable class of all.

    Args:
        probabilities: Out-of-sample, float (N, K).
        labels: int (N,), of the K classes. A class may have no image: then none is confidently of it.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    own = probabilities[np.arange(len(labels)), labels]
    means = np.bincount(labels, own, len(counts)) / np.maximum(counts, 1)
    reached = probabilities >= np.where(counts > 0, np.maximum(means - ROUNDING, ROUNDING), np.inf)
    guess = np.where(reached, probabilities, -1).argmax(1)
    return reached.any(1) & (guess != labels) & (margin(probabilities, labels) < 0.5)
