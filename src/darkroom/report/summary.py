"""The results in metrics/ as a table in plain text."""

from itertools import combinations
from typing import Any

from darkroom.evaluation.titles import FEW, METRICS
from darkroom.system import params
from darkroom.system.errors import UserError
from darkroom.system.files import read_json

RESULTS = "metrics/evaluate.json"


def as_text(seconds: float | None = None) -> str:
    """The test metrics of each model with 95 % intervals, which model is better, and where to find the charts.

    Args:
        seconds: How long the run took. None leaves this line out.

    Raises:
        UserError: There are no results yet, or they lack a model that params.yaml lists.
    """
    scores, names = read_json(RESULTS), params.models()
    if missing := [name for name in names if "title" not in scores.get(name, {})]:
        raise UserError(f"{RESULTS} has no model '{missing[0]}', which params.yaml lists: run `dvc repro`")
    titles = {name: scores[name]["title"] for name in names}
    lines = [f"{_what(scores):26}" + "".join(f"{title:>24}" for title in titles.values())]
    for metric, title in METRICS.items():
        if all(metric in scores[name] for name in names):
            lines.append(f"{title:26}" + "".join(f"{with_interval(scores[name][metric]):>24}" for name in names))
    lines += ["", *verdicts(scores, titles), *small_classes(scores[names[0]]["per_class"])]
    lines.append("Charts: plots/*.png; all plots in one page: `dvc plots show`; metrics: `dvc metrics show`.")
    if seconds is not None:
        lines.append(f"It took {seconds // 60:.0f} min {seconds % 60:.0f} s.")
    return "\n".join(lines)


def verdicts(scores: dict[str, Any], titles: dict[str, str]) -> list[str]:
    """Lines that say which model of each pair is better, by the paired test: McNemar's, or for groups (paired.py)."""
    comparison, pairs = scores["comparison"], list(combinations(titles, 2))
    test = f"The paired test of {comparison['groups']} groups" if "groups" in comparison else "McNemar's test"
    if len(pairs) == 1:
        pair = comparison["_".join(pairs[0])]
        better = titles.get(pair["better"])
        verdict = f"the {better} model is better." if better else "no evidence that one is better."
        return [f"{test}: p = {pair['p']:.2g}, {verdict}"]
    lines = [f"{test} (p by Holm's method for {len(pairs)} pairs):"] if pairs else []
    for first, second in pairs:
        pair = comparison[f"{first}_{second}"]
        verdict = f"{titles[pair['better']]} is better" if pair["better"] in titles else "no evidence"
        lines.append(f"  {titles[first]} against {titles[second]}: p = {pair['p']:.2g}, {verdict}")
    return lines


def small_classes(per_class: dict[str, dict[str, float]]) -> list[str]:
    """A line that names the classes with few test images, if there are any."""
    few = [f"{label} ({of['support']:.0f})" for label, of in per_class.items() if of["support"] < FEW]
    return [f"Fewer than {FEW} test images, too few to judge a class by: {', '.join(few)}."] if few else []


def _what(scores: dict[str, Any]) -> str:
    if groups := scores["comparison"].get("groups"):
        return f"{scores['count']} images, {groups} groups"
    return f"on {scores['count']} test images"


def with_interval(metric: dict[str, Any]) -> str:
    """A metric with its interval, if it has one, as in 0.884 (0.857-0.907)."""
    if "low" not in metric:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} ({metric['low']:.3f}-{metric['high']:.3f})"
