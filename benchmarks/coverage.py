"""Do sets of classes hold the right one as often as promised, although val chose the epoch and the temperature, too?

    python benchmarks/coverage.py [--draws 500]

Simulated images of four classes. A model's logits are those of the image, blurred anew in each of seven epochs, and too large.
Val chooses the epoch and fits temperature and thresholds; or the thresholds and the temperature are fitted on other images of the
same number. Both are held to 20,000 new images.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.special import log_softmax
from tqdm import tqdm

import common
from darkroom.evaluation import conformal, metrics
from darkroom.evaluation.said import from_probabilities
from darkroom.networks.calibration import calibrated
from darkroom.training.calibrate import fit_temperature

CLASSES, EPOCHS, TEST, BINS = 4, 7, 20_000, 15
SHARES = (0.4, 0.3, 0.2, 0.1)
STRENGTH, OF_EPOCH, TOO_SURE = 2.2, 0.6, 2.0


def main() -> None:
    """Print the table, and write it to coverage.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--draws", type=int, default=500)
    options = parser.parse_args()
    header = [
        "val images",
        "fitted on",
        "error rate",
        "coverage",
        "rarest class",
        "mean size",
        "calibration error",
        "raw",
    ]
    common.publish(
        f"Means over {options.draws} draws of val; the standard error of a coverage is at most 0.2 %. The epoch is the one with "
        "the highest val accuracy of seven.\n\n"
        f"{common.table(header, rows(options.draws), text=(1,))}\n`python benchmarks/coverage.py`\n",
        options.results / "coverage.md",
    )


def rows(draws: int) -> Iterator[list[str]]:
    """A row per number of val images, side that is fitted on, and error rate."""
    for count in (95, 262, 1000):
        random = np.random.default_rng(0)
        found = [one for _ in tqdm(range(draws), str(count), disable=None, leave=False) for one in draw(random, count)]
        for side in ("val", "other images"):
            for rate in (0.05, 0.1):
                chosen = np.array(
                    [values for where, error_rate, *values in found if (where, error_rate) == (side, rate)]
                )
                coverage, rarest, size, ece, raw = chosen.mean(0)
                yield [
                    f"{count:,}",
                    side,
                    f"{rate:.0%}",
                    f"{coverage:.1%}",
                    f"{rarest:.1%}",
                    f"{size:.2f}",
                    f"{ece:.3f}",
                    f"{raw:.3f}",
                ]


def draw(random: np.random.Generator, count: int) -> Iterator[tuple[str, float, float, float, float, float, float]]:
    """One training: side, error rate, coverage, coverage of the rarest class, mean size, calibration error, and that without
    temperature."""
    (val, of_val), (other, of_other), (test, of_test) = (images(random, size) for size in (count, count, TEST))
    accuracies = [(epoch.argmax(1) == of_val).mean() for epoch in val]
    losses = [-log_softmax(epoch, 1)[np.arange(count), of_val].mean() for epoch in val]
    best = min(range(EPOCHS), key=lambda epoch: (-accuracies[epoch], losses[epoch]))
    raw = metrics.ece(
        of_test, from_probabilities(calibrated(torch.from_numpy(test[best])[None], 1.0).numpy(), of_test), BINS
    )
    for side, logits, labels in (("val", val[best], of_val), ("other images", other[best], of_other)):
        tensor = torch.from_numpy(logits)[None]
        temperature = fit_temperature(tensor, torch.from_numpy(labels))
        scores = 1 - calibrated(tensor, temperature).numpy()[np.arange(count), labels]
        probabilities = calibrated(torch.from_numpy(test[best])[None], temperature).numpy()
        for rate in (0.05, 0.1):
            sets = conformal.limits_of((scores, labels, np.zeros(1)), CLASSES, rate).sets(probabilities)
            held = sets[np.arange(TEST), of_test]
            rarest = float(held[of_test == CLASSES - 1].mean())
            ece = metrics.ece(of_test, from_probabilities(probabilities, of_test), BINS)
            yield side, rate, float(held.mean()), rarest, float(sets.sum(1).mean()), ece, raw


def images(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (epochs, N, K) and labels (N,)."""
    labels = random.choice(CLASSES, count, p=SHARES)
    of_image = random.normal(size=(count, CLASSES))
    of_image[np.arange(count), labels] += STRENGTH
    logits = of_image + OF_EPOCH * random.normal(size=(EPOCHS, count, CLASSES))
    return TOO_SURE * logits, labels


if __name__ == "__main__":
    main()
