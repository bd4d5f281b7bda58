"""The same params under several seeds: how far the results wander by chance, and what difference would show."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import optimize, stats

from darkroom.evaluation import metrics
from darkroom.evaluation.titles import MODELS, TITLES
from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError

POWER = 0.8  # of a test at 5 %, for what counts as detectable
FEW = 5  # seeds; the interval of fewer may pass what a figure can be
RESULTS = "metrics/evaluate.json"


def run(count: int) -> str:
    """Run the params as they are under `count` seeds, each a DVC experiment named seed-N, and return the table.

    Experiments that are there already, for this very commit, are not run again.

    Raises:
        UserError: Something is not committed, or a run failed.
    """
    git.refuse_changes("seeds are compared for one commit")
    head = dvc.commit("HEAD")
    first = params.load("run", params.Run).seed
    results = []
    for seed in range(first, first + count):
        name = f"seed-{seed}-{head[:7]}"
        if head not in dvc.experiments(name) and dvc.call(
            "exp", "run", "--temp", "--name", name, "--set-param", f"run.seed={seed}"
        ):
            raise UserError(f"the run under seed {seed} failed: mend what it says, and the next run goes on from there")
        content = git.show(dvc.experiments(name).get(head, head), RESULTS)
        results.append(json.loads(content or b"{}"))
    return table(results, first)


def table(results: Sequence[dict[str, Any]], first: int) -> str:
    """Markdown: each figure's mean with its 95 % interval, its spread, and the difference that as many runs would show."""
    count = len(results)
    lines = [
        f"{count} seeds from {first} on; the test images are the same {results[0]['count']:,} each time.",
        "",
        "| model | figure | mean (95 %) | standard deviation | lowest to highest | detectable |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for model, title in MODELS.items():
        for figure, words in TITLES.items():
            if all(figure in result[model] for result in results):
                values = np.array([result[model][figure]["value"] for result in results])
                spread = float(values.std(ddof=1))
                half = float(stats.t.ppf((1 + metrics.CONFIDENCE) / 2, count - 1)) * spread / math.sqrt(count)
                cells = (
                    f"{values.mean():.3f} ({values.mean() - half:.3f} to {values.mean() + half:.3f})",
                    f"{spread:.4f}",
                    f"{values.min():.3f} to {values.max():.3f}",
                    f"{detectable(spread, count):.3f}",
                )
                lines.append(f"| {title} | {words} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Detectable: the true difference of two means of {count} seeds each that a t test at 5 % finds in {POWER:.0%} of cases. "
        f"{'So few seeds tell little of their own spread: five or more are worth their time. ' if count < FEW else ''}"
        "It is about training's chance alone: other test images add theirs, see the intervals of `darkroom summary`.",
    ]
    return "\n".join(lines) + "\n"


def detectable(spread: float, count: int) -> float:
    """The smallest difference of means that a two-sided t test of two groups finds with `POWER`.

    Args:
        spread: Standard deviation within each group.
        count: Runs in each group, 2 or more.

    By the noncentral t distribution (Cohen 1988, chapter 2).
    """
    if spread == 0:
        return 0.0
    freedom = 2 * count - 2
    critical = stats.t.ppf(1 - metrics.LEVEL / 2, freedom)

    def shortfall(effect: float) -> float:
        return float(stats.nct.sf(critical, freedom, effect * math.sqrt(count / 2)) - POWER)

    most = 1.0
    while shortfall(most) < 0:
        most *= 2
    return float(optimize.brentq(shortfall, 0.0, most)) * spread
