"""Run the same params under several seeds: how much results vary by chance, and what difference can be detected."""

import contextlib
import json
import math

import numpy as np
from scipy import optimize, stats

from darkroom.evaluation import metrics, per_class, seed_runs
from darkroom.evaluation.seed_runs import Result, Runs
from darkroom.evaluation.titles import METRICS
from darkroom.experiments import clone, members
from darkroom.experiments.members import Member
from darkroom.system import files, git, params
from darkroom.system.errors import UserError

POWER = 0.8  # a difference is detectable if a test at 5 % finds it with this probability
FEW = 5  # seeds; with fewer, an interval can be wider than the metric's range, and the table has a warning
RESULTS = "metrics/evaluate.json"


def run_seeds(count: int, jobs: int | None) -> str:
    """Run HEAD's params under `count` seeds, each as a DVC experiment, and return the table as Markdown.

    The experiments are named seed-N-COMMIT. Those that exist already for this commit are not run again. What is committed or
    edited meanwhile changes none of them. The results are written to metrics/seeds.json in the work tree. `jobs` is that of
    `members.run`.

    Raises:
        UserError: A run failed.
    """
    with clone.of_head() as head:
        with contextlib.chdir(head.root):
            first, models = params.load("run", params.Run).seed, params.models()
        seeds = range(first, first + count)
        experiments = [Member(f"seed-{seed}-{head.commit[:7]}", f"seed {seed}", [f"run.seed={seed}"]) for seed in seeds]
        commits = members.run(experiments, head, jobs)
        found = {seed: _result(one.name, commit) for seed, one, commit in zip(seeds, experiments, commits, strict=True)}
        runs = seed_runs.collect(found, models)
    files.write_json(seed_runs.PATH, seed_runs.as_tree(runs))
    return (
        f"{as_markdown(runs)}\n`{seed_runs.PATH}` has these results, which are those of commit {head.commit[:7]}. Commit it "
        "there: where both sides have this file, `darkroom compare` judges the change itself.\n"
    )


def _result(name: str, commit: str) -> Result:
    """The results in the `commit` of the experiment `name`.

    Raises:
        UserError: It has none.
    """
    content = git.show(commit, RESULTS)
    if content is None:
        raise UserError(
            f"the experiment '{name}' has no {RESULTS}: remove it by `dvc exp remove {name}`, and try again"
        )
    scores = json.loads(content)
    return Result(scores, per_class.of_revision(git.show(commit, per_class.PATH), scores))


def as_markdown(runs: Runs) -> str:
    """The table of the runs, one row per model and metric.

    Each row has the mean with its 95 % t interval, the standard deviation, the range, and the detectable difference.
    """
    count = len(runs.seeds)
    lines = [
        f"{count} seeds from {runs.seeds[0]} on; the test images are the same {runs.images:,} each time.",
        "",
        "| model | metric | mean (95 %) | standard deviation | lowest to highest | detectable |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {runs.titles[model]} | {METRICS[metric]} | {_cells(np.array(values))} |"
        for model, by_metric in runs.metrics.items()
        for metric, values in by_metric.items()
    ]
    few = f" With fewer than {FEW} seeds the standard deviation is a rough estimate." if count < FEW else ""
    lines += [
        "",
        f"Detectable: the smallest true difference between the means of two groups of {count} runs that a t test at 5 % finds in "
        f"{POWER:.0%} of cases. It covers the randomness of the training only. The choice of the test images adds more: see the "
        f"intervals of `darkroom summary`.{few}",
    ]
    return "\n".join(lines) + "\n"


def _cells(values: np.ndarray) -> str:
    """The cells of one metric: mean with interval, standard deviation, range and detectable difference of its `values`."""
    count, mean, deviation = len(values), values.mean(), float(values.std(ddof=1))
    half = float(stats.t.ppf((1 + metrics.CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
    cells = (
        f"{mean:.3f} ({mean - half:.3f} to {mean + half:.3f})",
        f"{deviation:.4f}",
        f"{values.min():.3f} to {values.max():.3f}",
        f"{detectable(deviation, count):.3f}",
    )
    return " | ".join(cells)


def detectable(spread: float, count: int) -> float:
    """The smallest difference between the means of two groups that a two-sided t test at `LEVEL` finds with probability `POWER`.

    It is computed from the noncentral t distribution (Cohen 1988, chapter 2).

    Args:
        spread: Standard deviation within each group.
        count: Number of runs in each group, 2 or more.
    """
    if spread == 0:
        return 0.0
    freedom = 2 * count - 2
    critical = stats.t.ppf(1 - metrics.LEVEL / 2, freedom)

    def shortfall(effect: float) -> float:
        return float(stats.nct.sf(critical, freedom, effect * math.sqrt(count / 2)) - POWER)

    upper = 1.0
    while shortfall(upper) < 0:
        upper *= 2
    return float(optimize.brentq(shortfall, 0.0, upper)) * spread
