"""Paired tests and intervals, for single images and for groups: against enumeration, against the metrics, by simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from darkroom.evaluation import bootstrap, metrics, paired
from darkroom.evaluation.said import from_probabilities

pytestmark = pytest.mark.fast


def margin(level: float, count: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * math.sqrt(level * (1 - level) / count)


@pytest.mark.parametrize(("first", "second"), [(5, 5), (1, 9), (30, 12), (3, 4)])
def test_single_images_are_mcnemars_test(first: int, second: int) -> None:
    """The mid-p by hand: the binomial probabilities of all splits that are more extreme, and half of those that are equal."""
    base = np.array([True] * first + [False] * second + [True] * 20)
    head = np.array([False] * first + [True] * second + [True] * 20)
    total = first + second
    chance = {k: math.comb(total, k) / 2**total for k in range(total + 1)}
    far = abs(second - first)
    two_sided = sum(p for k, p in chance.items() if abs(2 * k - total) > far)
    two_sided += sum(p for k, p in chance.items() if abs(2 * k - total) == far) / 2
    less = sum(p for k, p in chance.items() if k < second) + chance[second] / 2
    found = paired.accuracy_test(base, head, np.arange(len(base)))
    assert found == pytest.approx((two_sided, less))


def test_a_model_that_did_not_change_has_p_1() -> None:
    """No image, or no group, on which the two differ. In the first group the two differ on images that cancel out."""
    right, units = np.array([True, False, True, True]), np.array([0, 0, 1, 1])
    assert paired.accuracy_test(right, right, np.arange(4)) == (1, 1)
    assert paired.accuracy_test(right, right[[1, 0, 2, 3]], units) == (1, 1)
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 30)
    same = from_probabilities(random.dirichlet(np.ones(3), 30), labels)
    tested = {"macro_f1": paired.macro_f1, "auroc": paired.auroc, "ece": paired.ece(5)}
    found = paired.metric_tests(tested, labels, same, same, np.arange(30))
    assert set(found.values()) == {(1, 1)}


def test_groups_are_all_exchanges_of_groups() -> None:
    """All 2 to the power of 8 exchanges, one by one."""
    random = np.random.default_rng(0)
    units = random.integers(0, 8, 60)
    units[:8] = range(8)
    base, head = random.random(60) < 0.6, random.random(60) < 0.8
    sums = []
    for swapped in itertools.product([False, True], repeat=8):
        swap = np.array(swapped)[units]
        sums.append(int(np.where(swap, base, head).sum()) - int(np.where(swap, head, base).sum()))
    observed = sums[0]
    two_sided = np.mean([(abs(one) > abs(observed)) + (abs(one) == abs(observed)) / 2 for one in sums])
    less = np.mean([(one < observed) + (one == observed) / 2 for one in sums])
    assert paired.accuracy_test(base, head, units) == pytest.approx((two_sided, less))


@pytest.mark.parametrize("name", ["macro_f1", "auroc", "ece"])
def test_metrics_after_exchanges_are_the_metrics(name: str) -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 90)
    first, second = (random.dirichlet(np.ones(3), 90).round(2) for _ in range(2))
    swapped = random.random((4, 90)) < 0.5
    exchanged = {"macro_f1": paired.macro_f1, "auroc": paired.auroc, "ece": paired.ece(5)}[name]
    plain = {
        "macro_f1": lambda y, said: metrics.macro_f1(y, said.predicted),
        "auroc": lambda y, said: metrics.auroc(y, said.probabilities),
        "ece": lambda y, said: metrics.ece(y, said, 5),
    }[name]
    mixed = [from_probabilities(np.where(row[:, None], second, first), labels) for row in swapped]
    one, other = (from_probabilities(side, labels) for side in (first, second))
    assert exchanged(labels, one, other, swapped) == pytest.approx([plain(labels, one) for one in mixed])


def equal_models(random: np.random.Generator, groups: int, size: int, classes: int) -> tuple[np.ndarray, ...]:
    """Labels, the probabilities of two equally good models, and units: what makes an image hard is half the group's."""
    units = np.repeat(np.arange(groups), size)
    labels = random.integers(0, classes, len(units))
    hard = random.normal(size=(groups, classes))[units]
    sides = []
    for _ in range(2):
        of_group = random.normal(size=(groups, classes))[units] if size > 1 else 0.0
        logits = hard + of_group + random.normal(size=(len(units), classes))
        logits[np.arange(len(units)), labels] += 2.5
        sides.append(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    return labels, *sides, units


def test_the_level_holds_for_groups_and_mcnemars_does_not() -> None:
    """500 pairs of equal models on 40 groups of 15 images."""
    random = np.random.default_rng(2)
    found, by_image = [], []
    for _ in range(500):
        labels, base, head, units = equal_models(random, 40, 15, 4)
        right = base.argmax(1) == labels, head.argmax(1) == labels
        found.append(paired.accuracy_test(*right, units))
        by_image.append(paired.accuracy_test(*right, np.arange(len(labels))))
    assert np.mean([p.two_sided < 0.05 for p in found]) == pytest.approx(0.05, abs=margin(0.05, 500))
    assert np.mean([p.less < 0.05 for p in found]) == pytest.approx(0.05, abs=margin(0.05, 500))
    assert np.mean([p.two_sided < 0.05 for p in by_image]) > 0.12


def test_auroc_keeps_its_level_with_rare_classes() -> None:
    """40 pairs of equal models on two common classes and four of three images each."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(6), [74, 74, 3, 3, 3, 3])
    fired = 0
    for seed in range(40):
        sides = []
        for _ in range(2):
            logits = random.normal(size=(len(labels), 6))
            logits[np.arange(len(labels)), labels] += 1.5
            sides.append(from_probabilities(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels))
        tests = paired.metric_tests({"auroc": paired.auroc}, labels, sides[0], sides[1], np.arange(len(labels)), seed)
        fired += tests["auroc"].two_sided < 0.05
    assert fired / 40 <= 0.05 + margin(0.05, 40)


@pytest.mark.parametrize(("groups", "share"), [(10, 0.9), (40, 0.97), (100, 0.8)])
def test_the_interval_of_an_accuracy_covers_it_for_groups(groups: int, share: float) -> None:
    """400 samples of groups of 15 images with a strong correlation within a group."""
    random, covered = np.random.default_rng(4), 0
    units = np.repeat(np.arange(groups), 15)
    for _ in range(400):
        latent = math.sqrt(0.5) * (random.normal(size=groups)[units] + random.normal(size=len(units)))
        right = (latent < stats.norm.ppf(share)).astype(int)
        found = metrics.accuracy(np.ones_like(right), right, units)
        covered += found["low"] <= share <= found["high"]
    assert covered / 400 > 0.95 - margin(0.05, 400)


def test_a_perfect_model_of_rare_classes_has_no_interval() -> None:
    labels = np.repeat(np.arange(300), 3)
    probabilities = from_probabilities(np.eye(300)[labels], labels)
    found = bootstrap.intervals({"macro_f1": bootstrap.macro_f1}, labels, probabilities, np.arange(900), 100, 0)
    assert np.isnan(found["macro_f1"]).all()
