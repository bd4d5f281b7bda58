"""Level, coverage and power of the verdicts, gates and intervals of `darkroom compare` and `evaluate`, by simulation.

    python benchmarks/verdicts.py [--pairs 2000]

Two models answer the same images. Their logits are sums of normal numbers: of the image and of its group, for both models and
for one. The logit of the right class is raised by a strength. With equal strengths the models are equally good, and a verdict is
an error. The share of such errors is the level: it should be 5 %.

Two recipes that are equal but for their seeds give models that differ: each training adds normal numbers of its own to the logits
of each image and of each class.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import stats
from scipy.special import softmax
from tqdm import tqdm

import common
from darkroom.comparison import over_seeds, verdicts
from darkroom.comparison.compare import class_tests, gate_tests, is_right
from darkroom.comparison.verdicts import GateTest
from darkroom.evaluation import metrics, paired, seed_runs
from darkroom.evaluation.said import Said, from_probabilities
from darkroom.evaluation.seed_runs import Runs

METRICS: dict[str, paired.Exchanged] = {"macro_f1": paired.macro_f1, "auroc": paired.auroc, "ece": paired.ece(15)}
# situation -> groups, images per group, share of each class
SITUATIONS: dict[str, tuple[int, int, Sequence[float]]] = {
    "300 images": (300, 1, [0.25] * 4),
    "10 groups of 15": (10, 15, [0.25] * 4),
    "20 groups of 15": (20, 15, [0.25] * 4),
    "40 groups of 15": (40, 15, [0.25] * 4),
    "100 groups of 15": (100, 15, [0.25] * 4),
    "300 images, six rare classes (1 %)": (300, 1, [0.47, 0.47, *[0.01] * 6]),
}
STRENGTH, STRONGER = 2.0, 2.4  # of the classes' logits; the second for power
IMAGES, CLASSES = 300, 4  # on which the recipes are tested
OF_IMAGE, OF_CLASS = 0.3, 0.4  # standard deviations over trainings, of each image's and of each class's logits


def main() -> None:
    """Print the tables, and write them to verdicts.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    options = parser.parse_args()
    few = options.pairs // 4
    header = ["accuracy", "macro F1", "AUROC", "calibration error", "gate, one model"]
    of_models = ["situation", *header, "McNemar by image"]
    of_recipes = ["seeds a side", *header, "accuracy of two models"]
    level = common.table(of_models, level_rows(STRENGTH, options.pairs), text=(0,))
    power = common.table(of_models, level_rows(STRONGER, few), text=(0,))
    recipes = common.table(of_recipes, recipe_rows(STRENGTH, options.pairs), text=())
    recipes_power = common.table(of_recipes, recipe_rows(STRONGER, few), text=())
    coverage = common.table(
        ["groups of 15", "accuracy", "coverage", "mean width"], coverage_rows(options.pairs), text=()
    )
    error = 100 * math.sqrt(0.05 * 0.95 / options.pairs)
    stronger = f"base's logits of the right class are higher by {STRONGER - STRENGTH:.1f} (n = {few})"
    common.publish(
        f'Level: equal models, share of verdicts other than "no evidence" (n = {options.pairs}, standard error {error:.1f} %).'
        f"\n\n{level}\nPower: {stronger}.\n\n{power}\n"
        f"Level over seeds: recipes that are equal but for their seeds, {IMAGES} images (n = {options.pairs}). The last column "
        "is the verdict on the accuracy of one trained model of each recipe: the models do differ, but the recipes do not.\n\n"
        f"{recipes}\nPower over seeds: {stronger}.\n\n{recipes_power}\n"
        "Coverage of the 95 % interval of an accuracy, correlation of 0.5 within a group "
        f"(n = {options.pairs}).\n\n{coverage}\n`python benchmarks/verdicts.py`\n",
        options.results / "verdicts.md",
    )


def level_rows(strength: float, pairs: int) -> Iterator[list[str]]:
    """A row per situation: in how many of the pairs each test at 5 % rejects."""
    for name, (groups, size, shares) in SITUATIONS.items():
        random = np.random.default_rng(0)
        rejected: dict[str, list[bool]] = defaultdict(list)
        for number in tqdm(range(pairs), name, disable=None, leave=False):
            labels, base, head, units = answers(random, groups, size, shares, strength)
            right = is_right(labels, base.predicted), is_right(labels, head.predicted)
            by_image = np.arange(len(labels))
            found = {
                "accuracy": paired.accuracy_test(*right, units),
                "by image": paired.accuracy_test(*right, by_image),
            }
            found |= paired.metric_tests(METRICS, labels, base, head, units, number)
            for metric, p in found.items():
                rejected[metric].append(p.two_sided < metrics.LEVEL)
            classes = [str(index) for index in range(len(shares))]
            sides = {"model": (base, head)}
            tests = gate_tests(labels, units, sides, class_tests(labels, units, sides, classes), {})
            rejected["gate"].append(any(test.p < metrics.LEVEL for test in tests))
        yield [name, *shares_of(rejected, "by image")]


def shares_of(rejected: Mapping[str, Sequence[bool]], last: str) -> list[str]:
    """How often each test rejected, in the order of the tables' columns; "" if it was not made."""
    names = ("accuracy", *METRICS, "gate", last)
    return [f"{np.mean(rejected[name]):.1%}" if rejected.get(name) else "" for name in names]


def recipe_rows(strength: float, pairs: int) -> Iterator[list[str]]:
    """A row per number of seeds: in how many of the pairs of recipes each test at 5 % rejects."""
    for seeds in (3, 5, 10):
        random = np.random.default_rng(0)
        rejected: dict[str, list[bool]] = defaultdict(list)
        for _ in tqdm(range(pairs), f"{seeds} seeds", disable=None, leave=False):
            labels, shared = random.integers(0, CLASSES, IMAGES), random.normal(size=(IMAGES, CLASSES))
            base, head = (trainings(random, shared, labels, raised, seeds) for raised in (strength, STRENGTH))
            before, after = (runs_of(labels, side) for side in (base, head))
            for metric, values in after.metrics["model"].items():
                test = seed_runs.welch(before.metrics["model"][metric], values)
                rejected[metric].append(test.two_sided < metrics.LEVEL)
            falls = over_seeds.falls(before, after)
            tests = [GateTest("model", label, p, True) for (_, label), p in falls.items()]
            whole, of_classes = (
                [test for test in tests if (test.label is None) == is_whole] for is_whole in (True, False)
            )
            gate = verdicts.adjusted_for_gate(whole, of_classes)
            if gate:  # with few seeds it is about the two models
                rejected["gate"].append(any(test.p < metrics.LEVEL for test in gate))
            right = is_right(labels, base[0].argmax(1)), is_right(labels, head[0].argmax(1))
            two_models = paired.accuracy_test(*right, np.arange(IMAGES))
            rejected["two models"].append(two_models.two_sided < metrics.LEVEL)
        yield [str(seeds), *shares_of(rejected, "two models")]


def trainings(
    random: np.random.Generator, shared: np.ndarray, labels: np.ndarray, raised: float, seeds: int
) -> np.ndarray:
    """Probabilities (S, N, K) that S trainings of one recipe give to the same images."""
    logits = shared + OF_IMAGE * random.normal(size=(seeds, *shared.shape))
    logits += OF_CLASS * random.normal(size=(seeds, 1, CLASSES))
    logits[:, np.arange(len(labels)), labels] += raised
    return softmax(logits, axis=-1)


def runs_of(labels: np.ndarray, probabilities: np.ndarray) -> Runs:
    """What `darkroom seeds` would record of S trainings with the probabilities (S, N, K)."""
    none = np.zeros((1, len(labels)), bool)
    right = probabilities.argmax(2) == labels
    values = {"accuracy": right.mean(1).tolist()}
    for name, metric in METRICS.items():
        said = [from_probabilities(one, labels) for one in probabilities]
        values[name] = [float(metric(labels, one, one, none)[0]) for one in said]
    recalls = {str(label): right[:, labels == label].mean(1).tolist() for label in range(CLASSES)}
    return Runs(list(range(len(probabilities))), len(labels), {"model": "Model"}, {"model": values}, {"model": recalls})


def answers(
    random: np.random.Generator, groups: int, size: int, shares: Sequence[float], strength: float
) -> tuple[np.ndarray, Said, Said, np.ndarray]:
    """Labels (N,), what base and head say, and the group of each image (N,)."""
    units, classes = np.repeat(np.arange(groups), size), len(shares)
    labels = random.choice(classes, len(units), p=shares)
    shared = random.normal(size=(len(units), classes))
    of_group = random.normal(size=(groups, classes))[units] if size > 1 else 0.0
    sides = []
    for raised in (strength, STRENGTH):
        of_model = random.normal(size=(groups, classes))[units] if size > 1 else 0.0
        logits = shared + of_group + of_model + random.normal(size=shared.shape)
        logits[np.arange(len(units)), labels] += raised
        sides.append(from_probabilities(softmax(logits, axis=-1), labels))
    return labels, sides[0], sides[1], units


def coverage_rows(samples: int) -> Iterator[list[str]]:
    """A row per number of groups and accuracy: how often the interval holds it, and its width."""
    for groups in (10, 20, 40, 100):
        for share in (0.7, 0.9, 0.97):
            random, held, width = np.random.default_rng(0), 0, 0.0
            units = np.repeat(np.arange(groups), 15)
            for _ in range(samples):
                latent = math.sqrt(0.5) * (random.normal(size=groups)[units] + random.normal(size=len(units)))
                right = (latent < stats.norm.ppf(share)).astype(np.int64)
                found = metrics.accuracy(np.ones_like(right), right, units)
                held += found["low"] <= share <= found["high"]
                width += found["high"] - found["low"]
            yield [str(groups), f"{share:.2f}", f"{held / samples:.1%}", f"{width / samples:.3f}"]


if __name__ == "__main__":
    main()
