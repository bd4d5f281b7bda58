"""Level, coverage and power of the verdicts, gates and intervals of `darkroom compare` and `evaluate`, by simulation.

    python benchmarks/verdicts.py [--pairs 2000] [--exchanged 400]

Two models answer the same images. Their logits are sums of normal numbers: of the image and of its group, for both models and
for one. The logit of the right class is raised by a strength. With equal strengths the models are equally good, and a verdict is
an error. The share of such errors is the level: it should be 5 %. Macro F1, AUROC and calibration error need random exchanges,
and are simulated `--exchanged` times.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats
from tqdm import tqdm

import common
from darkroom.comparison.compare import class_tests, gate_tests, is_right
from darkroom.evaluation import metrics, paired

BINS = 15
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


def main() -> None:
    """Print the tables, and write them to verdicts.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--exchanged", type=int, default=400)
    options = parser.parse_args()
    header = ["situation", "accuracy", "macro F1", "AUROC", "calibration error", "gate, one model", "McNemar by image"]
    level = common.table(header, level_rows(STRENGTH, options.pairs, options.exchanged), text=(0,))
    power = common.table(header, level_rows(STRONGER, options.pairs // 4, options.exchanged // 4), text=(0,))
    coverage = common.table(
        ["groups of 15", "accuracy", "coverage", "mean width"], coverage_rows(options.pairs), text=()
    )
    error = 100 * math.sqrt(0.05 * 0.95 / options.pairs)
    common.publish(
        f'Level: equal models, share of verdicts other than "no evidence" (n = {options.pairs}, standard error {error:.1f} %; '
        f"macro F1, AUROC and calibration error n = {options.exchanged}).\n\n{level}\n"
        f"Power: base's logits of the right class are higher by {STRONGER - STRENGTH:.1f} (a quarter of the n).\n\n"
        f"{power}\nCoverage of the 95 % interval of an accuracy, correlation of 0.5 within a group (n = {options.pairs}).\n\n"
        f"{coverage}\n`python benchmarks/verdicts.py`\n",
        options.results / "verdicts.md",
    )


def level_rows(strength: float, pairs: int, exchanged: int) -> Iterator[list[str]]:
    """A row per situation: in how many of the pairs each test at 5 % rejects."""
    for name, (groups, size, shares) in SITUATIONS.items():
        random = np.random.default_rng(0)
        rejected: dict[str, list[bool]] = defaultdict(list)
        for number in tqdm(range(pairs), name, disable=None, leave=False):
            labels, base, head, units = answers(random, groups, size, shares, strength)
            right = is_right(labels, base), is_right(labels, head)
            rejected["accuracy"].append(paired.accuracy_test(*right, units).two_sided < metrics.LEVEL)
            by_image = paired.accuracy_test(*right, np.arange(len(labels))).two_sided
            rejected["by image"].append(by_image < metrics.LEVEL)
            classes = [str(index) for index in range(len(shares))]
            sides = {"model": (base, head)}
            tests = gate_tests(labels, units, sides, class_tests(labels, units, sides, classes))
            rejected["gate"].append(any(test.p < metrics.LEVEL for test in tests))
            if number < exchanged:
                exchangeable = {"macro_f1": paired.macro_f1, "auroc": paired.auroc, "ece": paired.ece(BINS)}
                for metric, found in paired.metric_tests(exchangeable, labels, base, head, units, number).items():
                    rejected[metric].append(found.two_sided < metrics.LEVEL)
        order = ("accuracy", "macro_f1", "auroc", "ece", "gate", "by image")
        yield [name, *(f"{np.mean(rejected[metric]):.1%}" for metric in order)]


def answers(
    random: np.random.Generator, groups: int, size: int, shares: Sequence[float], strength: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), probabilities of base and head (N, K), and the group of each image (N,)."""
    units, classes = np.repeat(np.arange(groups), size), len(shares)
    labels = random.choice(classes, len(units), p=shares)
    shared = random.normal(size=(len(units), classes))
    of_group = random.normal(size=(groups, classes))[units] if size > 1 else 0.0
    sides = []
    for raised in (strength, STRENGTH):
        of_model = random.normal(size=(groups, classes))[units] if size > 1 else 0.0
        logits = shared + of_group + of_model + random.normal(size=shared.shape)
        logits[np.arange(len(units)), labels] += raised
        sides.append(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
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
