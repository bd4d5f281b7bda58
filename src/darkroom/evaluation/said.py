"""What a model says about images: all that metrics and tests need of its probabilities. Arrays in, arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Images times classes. Of more, no file and no comparison has every probability: plots/predictions.csv would have hundreds of MB,
# and a comparison of AUROC would take more than some minutes.
FULL = 1_000_000
BRIEF = ("confidence", "of_label")  # the columns of plots/predictions.csv instead of the probability of each class


@dataclass(frozen=True)
class Said:
    """A model's answers for N images.

    Attributes:
        predicted: int64 (N,), the most probable class.
        confidence: float64 (N,), its probability.
        of_label: float64 (N,), the probability of the class that the image has, over the sum of all, which are rounded.
        probabilities: float64 (N, K). None if there are too many to keep (`kept`).
    """

    predicted: np.ndarray
    confidence: np.ndarray
    of_label: np.ndarray
    probabilities: np.ndarray | None = None

    @property
    def numbers(self) -> np.ndarray:
        """The columns of plots/predictions.csv: `probabilities`, or `BRIEF`."""
        return np.column_stack([self.confidence, self.of_label]) if self.probabilities is None else self.probabilities

    def of(self, images: np.ndarray) -> "Said":
        """The answers for some of the images, by their indices."""
        every = None if self.probabilities is None else self.probabilities[images]
        return Said(self.predicted[images], self.confidence[images], self.of_label[images], every)

    def same(self, other: "Said") -> bool:
        """Whether all that is known of both is the same."""
        if self.probabilities is not None and other.probabilities is not None:
            return np.array_equal(self.probabilities, other.probabilities)
        pairs = (
            (self.predicted, other.predicted),
            (self.confidence, other.confidence),
            (self.of_label, other.of_label),
        )
        return all(np.array_equal(*pair) for pair in pairs)


def from_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> Said:
    """What probabilities, float64 (N, K), of images of the classes `labels`, int64 (N,), say."""
    of_label = probabilities[np.arange(len(labels)), labels] / probabilities.sum(1)
    return Said(probabilities.argmax(1), probabilities.max(1), of_label, probabilities)


def kept(said: Said) -> Said:
    """The same without the probabilities, if they are more than `FULL`."""
    if said.probabilities is None or said.probabilities.size <= FULL:
        return said
    return Said(said.predicted, said.confidence, said.of_label)


def joined(parts: Sequence[Said]) -> Said:
    """The answers for the images of all parts, without the probabilities."""
    columns = ([part.predicted, part.confidence, part.of_label] for part in parts)
    return Said(*map(np.concatenate, zip(*columns, strict=True)))
