"""A comparison in words: Markdown for pull requests and terminals, JSON for programs, HTML with the images."""

import base64
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markdown_it import MarkdownIt
from PIL import Image

from darkroom.comparison import data_diff, revision, thumbnails
from darkroom.comparison.compare import SMALL, Comparison, Flip, Headline
from darkroom.comparison.revision import Revision
from darkroom.evaluation.titles import MODELS, TITLES
from darkroom.system import files
from darkroom.system.errors import UserError
from darkroom.system.markdown import cell, code

LISTED = 20  # flips that Markdown names
PICTURED, THUMBNAIL = 100, 128  # flips that HTML shows; pixels
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ own.base }} to {{ own.head }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
  table { border-collapse: collapse; margin: 1rem 0 } td, th { border: 1px solid #bbb; padding: .2rem .6rem }
  .flips { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; width: 11rem }
  figcaption { font-size: .8rem; overflow-wrap: anywhere } .right { color: #0072b2 } .wrong { color: #b34700 }
</style>
{{ text | safe }}
<h2>Images whose verdict changed ({{ own.flips | length }}{% if shown | length < own.flips | length -%}
, the first {{ shown | length }} of them{% endif %})</h2>
<div class="flips">{% for flip, image in shown %}<figure><img src="{{ image }}" alt="">
<figcaption><b class="{{ 'right' if flip.head == flip.actual else 'wrong' }}">
{{ "now right" if flip.head == flip.actual else "now wrong" }}</b>, {{ models[flip.model] }}<br>{{ flip.path }}<br>
it is {{ flip.actual }}<br>{{ flip.base }} &rarr; {{ flip.head }}</figcaption></figure>
{% endfor %}</div></html>
"""


def markdown(own: Comparison, flips: bool = True) -> str:
    """The whole comparison as GitHub's Markdown, with or without the images whose verdict changed."""
    blocks = [_opening(own), _headlines(own), _classes(own), _flips(own) if flips else "", _params(own)]
    if own.stages:
        blocks.append(f"Stages that had to run anew: {', '.join(own.stages)}.")
    blocks.append(data_diff.markdown(own.data, own.base, own.head).strip())
    return "\n\n".join(block for block in blocks if block) + "\n"


def _opening(own: Comparison) -> str:
    base, head, shared = own.images["base"], own.images["head"], own.images["shared"]
    lines = [f"## {code(own.base)} to {code(own.head)}", ""]
    if base == head == shared:
        lines.append(f"Both were tested on the same {shared:,} images.")
    else:
        lines.append(
            f"The test sets differ ({base:,} and {head:,} images): what follows is on the {shared:,} images that both hold."
        )
    if own.images["unknown"]:
        lines.append(
            f"{own.images['unknown']:,} more that both hold are left out, for one of the two does not know their class."
        )
    if own.relabelled:
        lines.append(f"{own.relabelled:,} of them have another label now; the new one judges both.")
    if shared < SMALL:
        lines.append(f"**With {shared} images only large differences can show: no evidence is not evidence of none.**")
    return "\n".join(lines)


def _headlines(own: Comparison) -> str:
    lines = [
        "| model | figure | base | head | difference (95 %) | McNemar's p | verdict |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    lines += ["| " + " | ".join(_cells(line)) + " |" for line in own.headlines]
    lines += [
        "",
        "Each verdict is a test of its own at 5 %, so that a single one may be chance; `--fail-on worse` allows for that.",
    ]
    return "\n".join(lines)


def _cells(line: Headline) -> Iterator[str]:
    found = line.difference
    yield MODELS[line.model]
    yield TITLES[line.figure]
    yield "" if math.isnan(found.base) else f"{found.base:.3f}"
    yield "" if math.isnan(found.head) else f"{found.head:.3f}"
    interval = "" if math.isnan(found.low) else f" ({found.low:+.3f} to {found.high:+.3f})"
    yield "not defined" if math.isnan(found.head - found.base) else f"{found.head - found.base:+.3f}{interval}"
    yield "" if line.p is None else f"{line.p:.2g}"
    yield f"**{line.word}**" if line.word in ("better", "worse") else line.word or ""


def _classes(own: Comparison) -> str:
    if not own.classes:
        return "No class changed by more than chance."
    lines = ["| model | class | images | right in base | right in head | p (Holm) |", "|---|---|---:|---:|---:|---:|"]
    lines += [
        f"| {MODELS[one.model]} | {cell(one.label)} | {one.images} | {one.base:.3f} | {one.head:.3f} | {one.p:.2g} |"
        for one in own.classes
    ]
    return "\n".join(lines)


def _flips(own: Comparison) -> str:
    if not own.flips:
        return "No image's verdict changed."
    counts = Counter((flip.model, flip.head == flip.actual) for flip in own.flips)
    words = [
        f"{title}: {counts[model, True]} now right, {counts[model, False]} now wrong" for model, title in MODELS.items()
    ]
    lines = [f"<details><summary>Images whose verdict changed ({'; '.join(words)})</summary>", ""]
    lines += [f"- {_in_words(flip)}" for flip in own.flips[:LISTED]]
    if len(own.flips) > LISTED:
        lines.append(f"- and {len(own.flips) - LISTED} more")
    return "\n".join([*lines, "", "</details>"])


def _in_words(flip: Flip) -> str:
    return (
        f"{MODELS[flip.model]}, {code(flip.path)}: {code(flip.base)}, now {code(flip.head)}; it is {code(flip.actual)}"
    )


def _params(own: Comparison) -> str:
    if not own.params:
        return "No param changed."
    lines = ["| param | base | head |", "|---|---|---|"]
    lines += [f"| {cell(key)} | {_or_none(old)} | {_or_none(new)} |" for key, (old, new) in own.params.items()]
    return "\n".join(lines)


def _or_none(value: str | None) -> str:
    return "" if value is None else cell(value)


def as_json(own: Comparison) -> str:
    """The comparison as `Comparison` has it, the data diff in short."""
    found = asdict(own)
    for line, plain in zip(own.headlines, found["headlines"], strict=True):
        plain["difference"] = {**line.difference._asdict(), "value": line.difference.head - line.difference.base}
    found["data"] = [{"kind": one.kind, "path": data_diff.current(one).path} for one in own.data]
    return json.dumps(_without_nan(found), indent=2, ensure_ascii=True) + "\n"


def _without_nan(value: Any) -> Any:
    """`value` with null for what is not a number."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_html(own: Comparison, head: Revision, path: Path) -> None:
    """A page that stands alone: what the Markdown says, and the images whose verdict changed, up to a hundred."""
    rows = {revision.place(row): row for row in head.manifest if row.split == "test"}
    shown = [(flip, _data_uri(thumbnails.fetch(rows[flip.path], head.commit))) for flip in own.flips[:PICTURED]]
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown(own, flips=False))
    page = Environment(autoescape=True).from_string(PAGE).render(own=own, text=text, shown=shown, models=MODELS)
    try:
        files.write_bytes(path, page.encode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--html {path}: it cannot be written ({error}): name a file in a folder that you may write to"
        ) from None


def _data_uri(image: Image.Image) -> str:
    """A thumbnail that needs no file of its own."""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def drops(texts: Sequence[str]) -> dict[str, float]:
    """`FIGURE=DROP` each, as figure -> drop.

    Raises:
        UserError: One is not of this form.
    """
    found = {}
    for text in texts:
        figure, _, drop = text.partition("=")
        try:
            found[figure] = float(drop)
        except ValueError:
            found[figure] = math.nan
        if not 0 <= found[figure] < math.inf:
            raise UserError(f"--max-drop {text}: say a figure and how far it may fall, as in accuracy=0.01")
    return found
