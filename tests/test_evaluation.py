"""Evaluation: metrics, intervals and tests against other implementations and by simulation; the table of a network."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from conftest import RUN
from darkroom.evaluation import bootstrap, metrics, paired
from darkroom.evaluation.said import from_probabilities
from darkroom.networks import registry
from darkroom.networks.checkpoint import About
from darkroom.pictures import evaluate as pictures
from darkroom.stages import evaluate

pytestmark = pytest.mark.fast


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two models' probabilities of 300 images in four classes, with ties among the scores."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 300)
    base, head = (random.dirichlet(np.ones(4), 300) + 0.5 * np.eye(4)[labels] for _ in range(2))
    return labels, *((own / own.sum(1, keepdims=True)).round(2) for own in (base, head))


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])
    gaps = [abs(0.9 - 1), abs(0.8 - 0), abs(0.7 - 1), abs(0.6 - 1)]
    assert metrics.ece(labels, from_probabilities(probabilities, labels), 10) == pytest.approx(sum(gaps) / 4)


def test_accuracy_interval_is_wilsons() -> None:
    labels = np.zeros(656, int)
    result = metrics.accuracy(labels, np.array([0] * 580 + [1] * 76), np.arange(656))
    z, n, share = 1.959964, 656, 580 / 656
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert result["low"] == pytest.approx((centre - half) / (1 + z * z / n), rel=1e-5)
    assert result["high"] == pytest.approx((centre + half) / (1 + z * z / n), rel=1e-5)


def test_weighted_statistics_are_scikit_learns(answers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, own, _ = answers
    said = from_probabilities(own, labels)
    weights = np.random.default_rng(1).multinomial(300, np.full(300, 1 / 300), size=3)
    for row, weight in enumerate(weights):
        one = {"sample_weight": weight}
        areas = [sk.roc_auc_score(labels == k, own[:, k], **one) for k in range(4)]
        f1 = sk.f1_score(labels, own.argmax(1), average="macro", **one)
        assert bootstrap.accuracy(lambda y, p: p == y)(labels, said, weights)[row] == pytest.approx(
            sk.accuracy_score(labels, own.argmax(1), **one)
        )
        assert bootstrap.macro_f1(labels, said, weights)[row] == pytest.approx(f1)
        assert bootstrap.auroc(labels, said, weights)[row] == pytest.approx(np.mean(areas))


def test_a_class_without_images_is_not_in_a_mean_over_classes(
    answers: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """In no place where it is computed; predictions of that class still count as wrong."""
    labels, own, other = (part[answers[0] != 2] for part in answers)
    assert (own.argmax(1) == 2).any()
    f1 = np.mean([sk.f1_score(labels == k, own.argmax(1) == k) for k in (0, 1, 3)])
    area = np.mean([sk.roc_auc_score(labels == k, own[:, k]) for k in (0, 1, 3)])
    first, second = (from_probabilities(table, labels) for table in (own, other))
    once, none = np.ones((1, len(labels))), np.zeros((1, len(labels)), bool)
    assert metrics.macro_f1(labels, own.argmax(1)) == pytest.approx(f1)
    assert metrics.auroc(labels, own) == pytest.approx(area)
    assert bootstrap.macro_f1(labels, first, once)[0] == pytest.approx(f1)
    assert bootstrap.auroc(labels, first, once)[0] == pytest.approx(area)
    assert paired.macro_f1(labels, first, second, none)[0] == pytest.approx(f1)
    assert paired.auroc(labels, first, second, none)[0] == pytest.approx(area)
    assert bootstrap.linear_auroc(labels, first)[0] == pytest.approx(area)


@pytest.mark.parametrize("size", [1, 5])
def test_the_interval_of_auroc_for_large_sets_is_that_of_the_bootstrap(size: int) -> None:
    """30 classes, 1,200 images alone and in groups: the ends differ by less than a tenth of the width."""
    random = np.random.default_rng(5)
    labels = random.permutation(np.repeat(np.arange(30), 40))
    scores = random.gumbel(size=(1200, 30)) + 3 * random.random((1200, 1)) * np.eye(30)[labels]
    said = from_probabilities(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), labels)
    value, linear = bootstrap.linear_auroc(labels, said)
    assert said.probabilities is not None
    assert value == pytest.approx(metrics.auroc(labels, said.probabilities))
    both = {"exact": bootstrap.auroc, "linear": linear}
    found = bootstrap.intervals(both, labels, said, np.arange(1200) // size, 400, 0)
    width = np.ptp(found["exact"])
    assert found["linear"] == pytest.approx(found["exact"], abs=width / 10)


def test_the_interval_is_scipys(answers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """SciPy's paired bootstrap of the same difference, by its own draws."""
    labels, base, head = answers
    one, other = (from_probabilities(side, labels) for side in (base, head))
    found = bootstrap.differences({"macro_f1": bootstrap.macro_f1}, labels, one, other, np.arange(300), 2000)[
        "macro_f1"
    ]

    def macro_f1(actual: np.ndarray, predicted: np.ndarray) -> float:
        counts = np.bincount(4 * actual + predicted, minlength=16).reshape(4, 4)
        return float(np.mean(2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))))

    def difference(chosen: np.ndarray) -> float:
        return macro_f1(labels[chosen], head[chosen].argmax(1)) - macro_f1(labels[chosen], base[chosen].argmax(1))

    theirs = stats.bootstrap(
        (np.arange(300),), difference, vectorized=False, n_resamples=1000, method="percentile", rng=2
    ).confidence_interval
    assert found.head - found.base == pytest.approx(difference(np.arange(300)))
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_mcnemar_and_holm_on_known_cases() -> None:
    """Agresti's approval ratings (Categorical Data Analysis, table 10.1): 86 against 150; Holm's rule by hand."""
    first = np.array([True] * 150 + [False] * 86)
    exact = stats.binomtest(86, 236).pvalue
    assert exact == pytest.approx(3.7e-5, rel=0.02)
    found = paired.accuracy_test(first, ~first, np.arange(236))
    assert found.two_sided == pytest.approx(exact - stats.binom.pmf(86, 236, 0.5))
    assert metrics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_the_gate_fires_in_five_of_a_hundred_cases_of_no_difference() -> None:
    """1,000 pairs of equally good models on 663 images: 5 %, give or take three standard errors of the simulation."""
    random = np.random.default_rng(3)
    fired = 0
    for _ in range(1000):
        hard = random.random(663) < 0.25
        base, head = (~hard | (random.random(663) < 0.45) for _ in range(2))
        fired += paired.accuracy_test(base, head, np.arange(663)).less < metrics.LEVEL
    assert abs(fired / 1000 - 0.05) < 3 * (0.05 * 0.95 / 1000) ** 0.5


def test_intervals_of_no_difference_hold_zero() -> None:
    """400 pairs of equal models: the 95 % interval of macro F1's difference misses zero in about 5 %."""
    random = np.random.default_rng(4)
    missed = 0
    for seed in range(400):
        labels = random.integers(0, 3, 200)
        scores = (np.eye(3)[labels] + random.gumbel(size=(200, 3)) * 0.5 for _ in range(2))
        base, head = (from_probabilities(side, labels) for side in scores)
        found = bootstrap.differences({"macro_f1": bootstrap.macro_f1}, labels, base, head, np.arange(200), 300, seed)[
            "macro_f1"
        ]
        missed += found.low > 0 or found.high < 0
    assert abs(missed / 400 - 0.05) < 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (None, ["a-x", "b-x", "c"]),
        ("-(.)$", ["x", "x", "c"]),
        ("x", ["x", "x", "c"]),
        ("(q)?x", ["a-x", "b-x", "c"]),
    ],
)
def test_classes_merge_by_what_the_pattern_finds(merge: str | None, expected: list[str]) -> None:
    assert metrics.merge_classes(["a-x", "b-x", "c"], merge).tolist() == expected


def test_a_class_may_be_named_like_a_formula(tmp_path: Path) -> None:
    labels = np.array([0, 1])
    pictures.confusion(labels, {"scratch": labels, "finetune": labels}, ["$a_b$", "$"], tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_pairs_of_three_models_are_adjusted_by_holms_method() -> None:
    """SciPy's binomial test for each pair, as mid-p; its p times 3 for the least, times 2 for the next, times 1 for the last."""
    random = np.random.default_rng(5)
    right = {name: random.random(400) < share for name, share in (("a", 0.70), ("b", 0.76), ("c", 0.86))}
    found = evaluate.compare_pairs(right, np.arange(400))
    assert list(found) == ["a_b", "a_c", "b_c"]

    p_values = {}
    for pair, scores in found.items():
        first, second = pair.split("_")
        table = [(bool(one), bool(other)) for one, other in zip(right[first], right[second], strict=True)]
        only_first, only_second = table.count((True, False)), table.count((False, True))
        assert scores[f"only_{first}_right"] == only_first
        assert scores[f"only_{second}_right"] == only_second
        apart = only_first + only_second
        exact = stats.binomtest(only_first, apart, 0.5).pvalue
        p_values[pair] = exact - stats.binom.pmf(only_first, apart, 0.5)  # mid-p
    adjusted, last = {}, 0.0
    for pair, times in zip(sorted(p_values, key=lambda pair: p_values[pair]), (3, 2, 1), strict=True):
        last = adjusted[pair] = max(last, min(1.0, times * p_values[pair]))
    assert {pair: scores["p"] for pair, scores in found.items()} == pytest.approx(adjusted)
    for pair, scores in found.items():
        first, second = pair.split("_")
        better = first if right[first].sum() > right[second].sum() else second
        assert scores["better"] == (better if adjusted[pair] < 0.05 else "no evidence")
    assert {scores["better"] for scores in found.values()} == {"c", "no evidence"}
    assert any(p_values[pair] < adjusted[pair] for pair in found)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("small_cnn", {"width": 4, "blocks": 3, "dropout": 0.1}),
        ("tf_efficientnet_lite0", {"pooling": "average_and_maximum", "dropout": 0.0}),
        ("resnet18", {"pooling": "average", "dropout": 0.0}),
    ],
)
def test_the_table_of_a_network_counts_every_parameter_once(architecture: str, options: dict[str, object]) -> None:
    model = registry.build(architecture, options, 3)
    about = About("a title", architecture, options, ["a", "b", "c"], 64, [], [0.5] * 3, [0.5] * 3, True)
    rows = list(evaluate.layers(model, about, RUN))
    assert len({name for name, _, _ in rows}) == len(rows) > 5
    assert sum(parameters for _, _, parameters in rows) == sum(own.numel() for own in model.parameters())
    assert rows[-1] == ("head  Linear", "3", model.head.weight.numel() + 3)
