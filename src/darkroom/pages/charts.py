"""The plots of dvc.yaml as Vega-Lite charts that fit a page of any width.

DVC's templates show models and revisions side by side at a fixed width. On a page each of these views is a chart of its own,
as wide as its place.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

TEMPLATES = Path(".dvc/plots")
HEIGHT = 280  # pixels
Rows = Sequence[Mapping[str, Any]]


class Chart(NamedTuple):
    """A Vega-Lite specification with its data, and the title above it."""

    title: str
    spec: dict[str, Any]


def plots(stages: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The plots of dvc.yaml with a template of this project: path -> title, template, names and labels of the axes.

    DVC's own templates, such as `linear`, are in no file: plots with them are seen by `dvc plots show`.
    """
    entries = [entry for stage in stages.values() for entry in stage.get("plots", []) if isinstance(entry, dict)]
    return {path: about for entry in entries for path, about in entry.items() if _template(about).is_file()}


def _template(about: Mapping[str, str]) -> Path:
    return TEMPLATES / f"{about.get('template')}.json"


def charts(about: Mapping[str, str], rows: Rows) -> list[Chart]:
    """The charts of a plot.

    Args:
        about: Its entry in dvc.yaml.
        rows: Column -> value. Vega-Lite takes text for a number where a chart needs one. If there is a column `count`, each row
            stands for so many.
    """
    template = json.loads(_template(about).read_text(encoding="utf-8"))
    anchors: dict[str, Any] = {
        "<DVC_METRIC_DATA>": [{"rev": "", **row} for row in rows],
        "<DVC_METRIC_TITLE>": about.get("title", ""),
        "<DVC_METRIC_X>": about.get("x", ""),
        "<DVC_METRIC_Y>": about.get("y", ""),
        "<DVC_METRIC_X_LABEL>": about.get("x_label", about.get("x", "")),
        "<DVC_METRIC_Y_LABEL>": about.get("y_label", about.get("y", "")),
    }
    if rows and "count" in rows[0]:
        template = _summed(template)
    filled = _filled(template, anchors)
    filled.pop("title", None)
    views = _views(filled, about.get("title", ""))
    return [Chart(title, {**_fitted(spec, about.get("y", "")), "description": title}) for title, spec in views]


def curves(about: Mapping[str, str], rows: Rows) -> list[Chart]:
    """The charts of trainings, which the column `rev` tells apart.

    Their colours follow the order of `rows`, so that a model has the same one in all charts. A training of one epoch is a dot.
    """
    drawn = charts({**about, "title": "By epoch"}, rows)
    single = 1 in Counter(row["rev"] for row in rows).values()
    for _, spec in drawn:
        if single:  # a layer of its own: with points of the line, the legend would show no dashes
            dots = {"type": "point", "filled": True, "size": 25}
            spec["layer"] = [{"mark": spec.pop("mark")}, {"mark": dots, "encoding": {"strokeDash": {"value": [1, 0]}}}]
        spec["encoding"]["color"] |= {"sort": None}
        spec["encoding"]["x"]["axis"] |= {"labelExpr": "datum.value % 1 ? '' : datum.label", "format": "d"}
    return drawn


def placed(drawn: Sequence[Chart], specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The title of each chart, for a template, and its number: its place in `specs`, to which its specification is added."""
    first = len(specs)
    specs += [chart.spec for chart in drawn]
    return [{"id": number, "title": chart.title} for number, chart in enumerate(drawn, first)]


def share_scales(base: Sequence[Chart], head: Sequence[Chart]) -> None:
    """Give the `curves` of two revisions the same vertical axes, since they stand side by side."""
    for pair in zip(base, head, strict=False):
        values = [
            float(row[column])
            for chart in pair
            for row in chart.spec["data"]["values"]
            for column in chart.spec["transform"][0]["fold"]
        ]
        for chart in pair:
            chart.spec["encoding"]["y"]["scale"] = {"domain": [min(values), max(values)], "nice": True, "zero": False}


def _filled(tree: Any, anchors: Mapping[str, Any]) -> Any:
    """A copy of the template `tree` with a value for each anchor."""
    if isinstance(tree, dict):
        return {key: _filled(value, anchors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(value, anchors) for value in tree]
    if not isinstance(tree, str) or "<DVC_METRIC" not in tree:
        return tree
    if tree in anchors:
        return anchors[tree]
    for anchor, value in anchors.items():
        tree = tree.replace(anchor, str(value))
    return tree


def _summed(tree: Any) -> Any:
    """A copy of the template `tree` that adds up the column `count` where it counts rows."""
    if isinstance(tree, list):
        return [_summed(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    summed = {key: _summed(value) for key, value in tree.items()}
    return {**summed, "aggregate": "sum", "field": "count"} if tree.get("aggregate") == "count" else summed


def _views(spec: dict[str, Any], title: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The single views of a specification: those that stand side by side, and one for each value of a facet."""
    shared = {
        key: value for key, value in spec.items() if key not in ("facet", "spec", "hconcat", "vconcat", "columns")
    }
    for key in ("hconcat", "vconcat"):
        for part in spec.get(key, ()):
            inner = {**shared, **part, "transform": [*shared.get("transform", []), *part.get("transform", [])]}
            yield from _views(inner, _titled(title, part.get("title") or part["encoding"]["y"]["title"]))
    if "facet" in spec:
        for value, rows in _of_each(spec["data"]["values"], _facets(spec["facet"])):
            inner = {**shared, **deepcopy(spec["spec"]), "data": {"values": rows}}
            yield from _views(inner, _titled(title, value))
    if not spec.keys() & {"facet", "hconcat", "vconcat"}:
        yield title, spec


def _facets(facet: Mapping[str, Any]) -> list[str]:
    """The columns of data that a facet is about."""
    if "field" in facet:
        return [facet["field"]]
    return [facet[side]["field"] for side in ("row", "column") if side in facet]


def _of_each(rows: Rows, fields: Sequence[str]) -> Iterator[tuple[str, Rows]]:
    """The rows of each combination of the values of `fields`, in the order of their first appearance."""
    for values in dict.fromkeys(tuple(str(row.get(field, "")) for field in fields) for row in rows):
        name = ", ".join(filter(None, values))
        yield name, [row for row in rows if tuple(str(row.get(field, "")) for field in fields) == values]


def _titled(title: str, part: Any) -> str:
    text = part.get("text", "") if isinstance(part, dict) else part
    return f"{title}: {text}" if text else title


def _height(spec: dict[str, Any], y: str) -> int:
    """The height in pixels. A step is for each value of the vertical axis; of the column `y` if the axis is calculated."""
    height, rows = spec.get("height", HEIGHT), spec["data"]["values"]
    if isinstance(height, dict):
        field = spec["encoding"]["y"]["field"]
        values = {row.get(field if field in row else y) for row in rows}
        return int(height["step"]) * max(1, len(values))
    return min(height, HEIGHT)


def _fitted(spec: dict[str, Any], y: str) -> dict[str, Any]:
    """The single view `spec`, as wide as its place, with its legends below. `y`: the column of its vertical axis."""
    # page.js sets the columns of the legends.
    below = {"orient": "bottom", "layout": {"bottom": {"anchor": "start", "direction": "vertical"}}}
    config = {**spec.get("config", {}), "legend": below}
    return {
        **{key: value for key, value in spec.items() if key not in ("title", "resolve", "$schema")},
        "width": "container",
        "height": _height(spec, y),
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": {**config, "axis": {"labelLimit": 140}, "view": {"continuousHeight": HEIGHT}},
    }
