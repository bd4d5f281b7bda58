"""From features and labels to the ranked list."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors

from darkroom.labels import confident


class Ranking(NamedTuple):
    """How wrong the labels of N images look.

    Attributes:
        scores: float (N,), the probability of the label, to 6 digits; the lower, the more the label looks wrong. 1 if the label
            cannot be judged.
        suspects: bool (N,), `confident.suspects`. False if the label cannot be judged.
        suggested: int (N,), the most probable class. The label itself if it cannot be judged.
        can_judge: bool (N,).
    """

    scores: np.ndarray
    suspects: np.ndarray
    suggested: np.ndarray
    can_judge: np.ndarray


def rank(probabilities: np.ndarray, can_judge: np.ndarray, labels: np.ndarray) -> Ranking:
    """Judge the labels, int (N,), by out-of-sample probabilities, float (N, K), of the images of which one can."""
    scores, suspects, suggested = np.ones(len(labels)), np.zeros(len(labels), bool), labels.copy()
    judged, given = probabilities[can_judge], labels[can_judge]
    if len(given):
        scores[can_judge] = confident.own(judged, given).round(6)  # the last bits decide no order
        suspects[can_judge] = confident.suspects(judged, given)
        suggested[can_judge] = judged.argmax(1)
    return Ranking(scores, suspects, suggested, can_judge)


def neighbours(features: np.ndarray, wanted: Sequence[int], count: int) -> list[list[int]]:
    """The `count` images, by index, that look most like each of the `wanted` ones, the nearest first.

    By the cosine similarity of the features, float32 (N, D). An image is no neighbour of its own.
    """
    if not len(wanted):
        return []
    search = NearestNeighbors(n_neighbors=min(count + 1, len(features)), metric="cosine", algorithm="brute")
    nearest = search.fit(features).kneighbors(features[wanted], return_distance=False).tolist()
    return [[other for other in row if other != one][:count] for one, row in zip(wanted, nearest, strict=True)]
