"""The results in metrics/ as a table in plain text."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from darkroom.evaluation import per_class
from darkroom.evaluation.per_class import FEW, Classes
from darkroom.evaluation.titles import METRICS
from darkroom.system import params
from darkroom.system.errors import UserError
from darkroom.system.files import read_json

RESULTS = "metrics/evaluate.json"
LISTED = 20  # classes
WIDTH = 40  # characters of the name of a class


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
    lines += ["", *verdicts(scores, titles), "", *classes(per_class.load(), titles), ""]
    charts = "charts: plots/*.png; all figures: metrics/*.json."
    if seconds is None:
        lines.append(f"As a page: `darkroom page`; {charts}")
    else:
        lines.append(charts.capitalize())
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


def classes(found: Mapping[str, Classes], titles: Mapping[str, str]) -> list[str]:
    """A line for each class, the weakest of all models first, and sentences on what is marked and what is not listed.

    Classes with few test images come last: they would fill the head of the list by chance alone.
    """
    if missing := [name for name in titles if name not in found]:
        raise UserError(f"{per_class.PATH} has no model '{missing[0]}', which params.yaml lists: run `dvc repro`")
    every = found[next(iter(titles))]

    def rank(label: str) -> tuple[bool, float, str]:
        return bool(every[label].few), sum(found[name][label].recall or 0 for name in titles), label

    tested = sorted((label for label, of in every.items() if of.test_images), key=rank)
    head = f"{'recall of a class, the weakest first':42}{'test images':>14}"
    lines = [head + "".join(f"{title:>24}" for title in titles.values())]
    for label in tested[:LISTED]:
        count = f"{every[label].test_images}{' (few)' if every[label].few else ''}"
        figures = (with_interval(per_class.recall(found[name][label])) for name in titles)
        lines.append(f"{_short(label):42}{count:>14}" + "".join(f"{text:>24}" for text in figures))
    return [*lines, *_notes(every, tested)]


def _notes(every: Classes, tested: Sequence[str]) -> Iterator[str]:
    if len(tested) > LISTED:
        yield f"{len(tested) - LISTED} more classes are in {per_class.PATH}."
    if few := sum(1 for label in tested if every[label].few):
        yield f"(few): fewer than {FEW} test images, too few to judge a class by; {few} of {len(every)} classes."
    if absent := [label for label in every if not every[label].test_images]:
        more = f" and {len(absent) - LISTED} more" if len(absent) > LISTED else ""
        yield f"Without test images, so that nothing is known of them: {', '.join(map(_short, absent[:LISTED]))}{more}."


def _what(scores: dict[str, Any]) -> str:
    if groups := scores["comparison"].get("groups"):
        return f"{scores['count']} images, {groups} groups"
    return f"on {scores['count']} test images"


def _short(label: str) -> str:
    shown = label if label.isprintable() else ascii(label)
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 1]}…"


def with_interval(metric: dict[str, Any]) -> str:
    """A metric with its interval, if it has one, as in 0.884 (0.857-0.907)."""
    if "low" not in metric:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} ({metric['low']:.3f}-{metric['high']:.3f})"
