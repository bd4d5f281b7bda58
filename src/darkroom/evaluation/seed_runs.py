"""The results of the same params under several seeds, and Welch's test of two such sets.

`darkroom seeds` writes them to metrics/seeds.json, from where `darkroom compare` reads them.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from darkroom.evaluation import metrics
from darkroom.evaluation.bootstrap import Difference
from darkroom.evaluation.per_class import Classes
from darkroom.evaluation.titles import METRICS

PATH = "metrics/seeds.json"

# Model -> metric or class -> the value under each seed.
Values = dict[str, dict[str, list[float]]]


class Result(NamedTuple):
    """One run: the content of metrics/evaluate.json, and that of plots/per_class.csv by model."""

    scores: Mapping[str, Any]
    classes: Mapping[str, Classes]


@dataclass(frozen=True)
class Runs:
    """S runs that differ in their seed alone.

    Attributes:
        seeds: S seeds.
        images: Number of test images, which are the same in each run.
        titles: Model -> its title in tables.
        metrics: Model -> metric, a key of `titles.METRICS` -> S values.
        recalls: Model -> class -> S values, the share of the images of the class about which the model is right.
    """

    seeds: list[int]
    images: int
    titles: dict[str, str]
    metrics: Values
    recalls: Values


class Welch(NamedTuple):
    """Welch's t test (1947) of the hypothesis that the means over seeds of base and head are equal.

    Attributes:
        difference: The means in base and in head, and the 95 % interval of the difference.
        two_sided: P value; small if head is better or worse.
        less: P value; small if the mean of head is lower.

    If neither side varies over its seeds, interval and p values are NaN.
    """

    difference: Difference
    two_sided: float
    less: float


def collect(results: Mapping[int, Result], models: Sequence[str]) -> Runs:
    """Runs from the results under each seed. A metric that not every run has is left out."""
    runs, classes = [result.scores for result in results.values()], [result.classes for result in results.values()]
    values, recalls = {}, {}
    for model in models:
        shared = [metric for metric in METRICS if all(metric in run[model] for run in runs)]
        values[model] = {metric: [float(run[model][metric]["value"]) for run in runs] for metric in shared}
        recalls[model] = {
            label: [float(of_run[model][label].recall or 0) for of_run in classes]
            for label, of_class in classes[0][model].items()
            if of_class.recall is not None
        }
    titles = {model: str(runs[0][model]["title"]) for model in models}
    return Runs(list(results), int(runs[0]["count"]), titles, values, recalls)


def as_tree(runs: Runs) -> dict[str, Any]:
    """The content of metrics/seeds.json. DVC shows the means and standard deviations, and leaves out the lists."""
    return {
        "count": runs.images,
        "seeds": runs.seeds,
        "models": {
            model: {
                "title": runs.titles[model],
                "recall": runs.recalls[model],
                **{
                    metric: {"mean": np.mean(values), "standard_deviation": np.std(values, ddof=1), "values": values}
                    for metric, values in runs.metrics[model].items()
                },
            }
            for model in runs.titles
        },
    }


def belonging(
    data: bytes | None, result: Callable[[], Result], models: Sequence[str], seed: int
) -> tuple[Runs | None, str]:
    """The runs in metrics/seeds.json, if they are of the same params, code and data as other results.

    They are if their values under the seed of those results equal the values there.

    Args:
        data: The content of metrics/seeds.json. None if there is no such file.
        result: Reads those results.
        models: The models in them.
        seed: The value of run.seed with which they were made.

    Returns:
        The runs and "", or None and what there is instead.
    """
    if data is None:
        return None, f"no {PATH}"
    try:
        runs = _parse(data, models)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None, f"a damaged {PATH}"
    try:
        same = only(runs, seed) == collect({seed: result()}, models)
    except (KeyError, TypeError, ValueError, AttributeError):  # one of them lacks the seed, a model or a class
        same = False
    return (runs, "") if same else (None, f"a {PATH} of other results")


def _parse(data: bytes, names: Sequence[str]) -> Runs:
    """Runs of the models `names` from the content of metrics/seeds.json.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: It is damaged.
    """
    tree = json.loads(data)
    seeds = [int(seed) for seed in tree["seeds"]]
    models = {name: tree["models"][name] for name in names if name in tree["models"]}

    def checked(values: Sequence[float]) -> list[float]:
        found = [float(value) for value in values]
        if len(found) != len(seeds) or not np.isfinite(found).all():
            raise ValueError("a seed has no value")
        return found

    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError("there are not two seeds, or one is there twice")
    return Runs(
        seeds,
        int(tree["count"]),
        {model: str(entry["title"]) for model, entry in models.items()},
        {
            model: {name: checked(entry[name]["values"]) for name in METRICS if name in entry}
            for model, entry in models.items()
        },
        {
            model: {label: checked(values) for label, values in entry["recall"].items()}
            for model, entry in models.items()
        },
    )


def only(runs: Runs, seed: int) -> Runs:
    """The run under `seed` alone.

    Raises:
        ValueError: There is none.
    """
    index = runs.seeds.index(seed)

    def pick(values: Values) -> Values:
        return {model: {name: [found[index]] for name, found in each.items()} for model, each in values.items()}

    return Runs([seed], runs.images, runs.titles, pick(runs.metrics), pick(runs.recalls))


def welch(base: Sequence[float], head: Sequence[float]) -> Welch:
    """Welch's t test of the values under the seeds of base and of head, two or more each."""
    before, after = np.asarray(base, np.float64), np.asarray(head, np.float64)
    means = float(before.mean()), float(after.mean())
    if np.ptp(before) == 0 and np.ptp(after) == 0:
        return Welch(Difference(*means, np.nan, np.nan), np.nan, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy warns if the values of one side are all the same
        found = stats.ttest_ind(after, before, equal_var=False)
        low, high = found.confidence_interval(metrics.CONFIDENCE)
    less = float(stats.t.cdf(found.statistic, found.df))
    return Welch(Difference(*means, float(low), float(high)), float(found.pvalue), less)
