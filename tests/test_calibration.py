"""Probabilities that mean what they say, sets of classes, and images that are unlike the training images."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from mapie.classification import SplitConformalClassifier
from scipy.optimize import minimize_scalar
from sklearn.base import ClassifierMixin

from darkroom.evaluation import conformal, metrics
from darkroom.networks.calibration import calibrated, unlikeness
from darkroom.training.calibrate import fit_temperature, space_of

pytestmark = pytest.mark.fast


def drawn(random: np.random.Generator, count: int, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (1, N, K) of a model that is twice as sure as it may be, and the labels (N,)."""
    logits = 1.5 * random.normal(size=(count, classes))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)  # a draw from the softmax
    return torch.from_numpy(2 * logits)[None], torch.from_numpy(labels)


def test_the_temperature_is_that_of_the_draw_and_of_scipy() -> None:
    logits, labels = drawn(np.random.default_rng(0), 20_000)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(2, abs=0.05)
    loss = torch.nn.CrossEntropyLoss()
    best = minimize_scalar(lambda log: float(loss(logits[0] / math.exp(log), labels)), bounds=(-2, 2), method="bounded")
    assert found == pytest.approx(math.exp(best.x), rel=5e-3)  # three digits


def test_a_val_without_mistakes_does_not_make_answers_surer() -> None:
    logits, _ = drawn(np.random.default_rng(0), 15)
    assert fit_temperature(logits, logits[0].argmax(1)) == 1


def test_views_are_averaged_after_the_softmax() -> None:
    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])
    expected = (1 / (1 + math.exp(-1)) + 0.5) / 2
    assert float(calibrated(logits, 2.0)[0, 0]) == pytest.approx(expected)


class Known(ClassifierMixin):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier for MAPIE that gives the probabilities which it is asked with."""

    def __init__(self, classes: int) -> None:
        self.classes_ = np.arange(classes)

    def fit(self, *_: object) -> "Known":
        return self

    def predict_proba(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities

    def predict(self, probabilities: np.ndarray) -> np.ndarray:
        found: np.ndarray = probabilities.argmax(1)
        return found


@pytest.mark.parametrize("error_rate", [0.2, 0.05, 0.013])
def test_sets_are_those_of_mapie(error_rate: float) -> None:
    logits, labels = drawn(np.random.default_rng(1), 700)
    probabilities = calibrated(logits, 2.0).numpy()
    val, test, of_val = probabilities[:300], probabilities[300:], labels.numpy()[:300]
    mapie = SplitConformalClassifier(Known(4), confidence_level=1 - error_rate, conformity_score="lac", prefit=True)
    _, theirs = mapie.conformalize(val, of_val).predict_set(test)
    limit = conformal.quantile(1 - val[np.arange(300), of_val], error_rate)
    ours = conformal.Limits(np.full(4, limit), 0.0).sets(test)
    np.testing.assert_array_equal(ours, theirs[:, :, 0])


def test_the_error_rate_holds_within_each_class_with_enough_images() -> None:
    """Over 300 draws of val; the third class is harder, and the fourth too rare for a threshold of its own."""
    random, errors = np.random.default_rng(2), []
    for _ in range(300):
        labels = np.concatenate([np.repeat([0, 1, 2], 60), [3] * 5])
        scores = random.random(len(labels)) * np.where(labels == 2, 1.0, 0.5)
        limits = conformal.thresholds(scores, labels, 4, 0.1)
        assert limits[3] == conformal.quantile(scores, 0.1)
        errors.append([1 - min(limits[0] / 0.5, 1), 1 - min(limits[2], 1)])
    assert np.mean(errors, 0) == pytest.approx([0.1, 0.1], abs=0.015)


def test_too_few_images_promise_nothing() -> None:
    """With 18 images the smallest error rate is 1 in 19."""
    scores = np.linspace(0, 1, 18)
    assert conformal.quantile(scores, 0.05) == math.inf
    assert conformal.quantile(np.append(scores, 0.5), 0.05) == 1
    sets = conformal.limits_of((scores, np.zeros(18, np.int64), scores), 2, 0.05).sets(np.array([[0.99, 0.01]]))
    assert sets.all()


def features(random: np.random.Generator, count: int, turned: Sequence[float] = ()) -> torch.Tensor:
    """Features (N, 20) close to a plane; `turned` is added to the last of them."""
    found = random.normal(size=(count, 2)) @ np.eye(20)[:2] + 5 * np.eye(20)[2] + 0.01 * random.normal(size=(count, 20))
    found[:, 20 - len(turned) :] += turned
    return torch.from_numpy(found).float()


def test_another_direction_and_another_length_are_unlike() -> None:
    random = np.random.default_rng(3)
    space = space_of(features(random, 400))
    known, other = features(random, 400), features(random, 400, [1.0] * 10)
    limit = conformal.too_unlike(unlikeness(features(random, 400), space).numpy())
    assert (unlikeness(known, space) > limit).double().mean() < 0.03
    assert (unlikeness(other, space) > limit).double().mean() > 0.95
    assert (unlikeness(4 * known, space) > limit).double().mean() > 0.95


def test_risk_coverage_by_hand() -> None:
    right, confidence = np.array([True, False, True, True]), np.array([0.9, 0.5, 0.8, 0.4])
    assert metrics.risk_coverage(right, confidence) == [(0.25, 0), (0.5, 0), (0.75, 1 / 3), (1, 0.25)]


@pytest.mark.fast
def test_sure_is_the_most_probable_class_alone() -> None:
    """Not another class alone, which thresholds of one's own allow, nor several or none."""
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [0.4, 0.6]])
    in_set = np.array([[True, False], [False, True], [True, True], [False, False]])
    assert conformal.sure(in_set, probabilities).tolist() == [True, False, False, False]
