"""A comparison as Markdown, for pull requests and terminals, and as JSON, for programs."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from darkroom.comparison import data_diff, look_alikes
from darkroom.comparison.compare import Comparison
from darkroom.comparison.over_seeds import DIFFERENT, GATE
from darkroom.comparison.verdicts import GONE, NEW, ClassChange, Headline
from darkroom.evaluation import seed_runs
from darkroom.evaluation.titles import FEW, METRICS
from darkroom.system import json_text
from darkroom.system.markdown import cell, code

SMALL = 100  # test images; with fewer, the report says that only large differences can show
LISTED = 20  # flips that the Markdown lists
OF_MODELS = (
    "p: two-sided mid-p of the paired randomisation test, which for the accuracies is McNemar's. Each verdict is a test of "
    "its own at 5 %, so that a single one may be chance; `--fail-on worse` is adjusted for the number of models and classes."
)


def as_markdown(comparison: Comparison, flips: bool = True) -> str:
    """The comparison as GitHub's Markdown, with or without the list of images that changed between right and wrong."""
    blocks = [
        _opening(comparison),
        _over_seeds(comparison),
        _about_the_models(comparison),
        _headlines(comparison.headlines, comparison.titles),
        OF_MODELS,
        look_alikes.markdown(comparison.look_alikes, comparison.images, comparison.titles),
        _classes(comparison.classes, comparison.titles),
        _flips(comparison) if flips else "",
        _params(comparison),
    ]
    if comparison.stages:
        blocks.append(f"Stages whose command, code, data or params differ: {', '.join(comparison.stages)}.")
    blocks.append(data_diff.markdown(comparison.data, comparison.base, comparison.head).strip())
    return "\n\n".join(block for block in blocks if block) + "\n"


def _opening(comparison: Comparison) -> str:
    base, head, shared = comparison.images["base"], comparison.images["head"], comparison.images["shared"]
    lines = [f"## {code(comparison.base)} to {code(comparison.head)}", ""]
    if base == head == shared:
        lines.append(f"Both were tested on the same {shared:,} images.")
    else:
        lines.append(
            f"The test sets differ ({base:,} and {head:,} images): what follows is about the {shared:,} images that both have."
        )
    if groups := comparison.images["groups"]:
        lines.append(f"They come from {groups:,} groups. Groups are what tests and intervals count, not images.")
    if comparison.images["unknown"]:
        lines.append(
            f"{comparison.images['unknown']:,} more that both have are left out, because one of the two does not know their "
            "class."
        )
    if comparison.relabelled:
        lines.append(f"{comparison.relabelled:,} of them have another label in head. That label counts for both.")
    old, new = comparison.machines
    if old and new and old != new:
        lines.append(
            f"**The two were computed on different kinds of machines** (base: {old}; head: {new}). That alone can make a "
            "difference."
        )
    if shared < SMALL:
        lines.append(
            f'**With {shared} images only large differences can show. "No evidence" does not mean that there is no difference.**'
        )
    return "\n".join(lines)


def _over_seeds(comparison: Comparison) -> str:
    seeds = comparison.over_seeds
    if seeds.missing:
        return ""
    fewer = min(seeds.base, seeds.head)
    notes = [
        "Means over seeds, on these test images. p: two-sided, by Welch's t test. Each verdict is a test of its own at 5 %."
    ]
    if any(line.p is None for line in seeds.headlines):
        notes.append("Without a p, neither side varies over its seeds: see the two trained models.")
    if fewer < GATE:
        notes.append(
            f"With fewer than {GATE} seeds on a side only large differences can show, and `--fail-on worse` is about the two "
            "trained models."
        )
    else:
        notes.append("`--fail-on worse` is about the change, and is adjusted for the number of models and classes.")
    if seeds.left_out:
        names = ", ".join(METRICS[metric] for metric in seeds.left_out)
        notes.append(f"Left out, because the params with which it is computed differ: {names}.")
    return "\n\n".join(
        [
            f"### The change, over {seeds.base} and {seeds.head} seeds",
            _headlines(seeds.headlines, comparison.titles),
            " ".join(notes),
            _classes(seeds.classes, comparison.titles),
        ]
    )


def _about_the_models(comparison: Comparison) -> str:
    text = (
        "### The two trained models\n\nThese verdicts are about the two trained models, on these images. A training "
        "under another seed can give another verdict."
    )
    missing = comparison.over_seeds.missing
    if missing == DIFFERENT:
        return f"{text} Seeds cannot judge the change itself, because {missing}."
    if missing:
        return f"{text} To judge the change itself, run `darkroom seeds` at both commits and commit {seed_runs.PATH}: {missing}."
    return text


def _headlines(headlines: Sequence[Headline], titles: Mapping[str, str]) -> str:
    lines = [
        "| model | metric | base | head | difference (95 %) | p | verdict |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    lines += ["| " + " | ".join(_cells(line, titles[line.model])) + " |" for line in headlines]
    return "\n".join(lines)


def _cells(line: Headline, title: str) -> Iterator[str]:
    difference = line.difference
    yield title
    yield METRICS[line.metric]
    yield "" if math.isnan(difference.base) else f"{difference.base:.3f}"
    yield "" if math.isnan(difference.head) else f"{difference.head:.3f}"
    change = difference.head - difference.base
    interval = "" if math.isnan(difference.low) else f" ({difference.low:+.3f} to {difference.high:+.3f})"
    undefined = "" if line.verdict in (NEW, GONE) else "not defined"
    yield undefined if math.isnan(change) else f"{change:+.3f}{interval}"
    yield "" if line.p is None else f"{line.p:.2g}"
    yield f"**{line.verdict}**" if line.verdict in ("better", "worse") else line.verdict or ""


def _classes(classes: Sequence[ClassChange], titles: Mapping[str, str]) -> str:
    if not classes:
        return "No class changed by more than chance."
    lines = ["| model | class | images | right in base | right in head | p (Holm) |", "|---|---|---:|---:|---:|---:|"]
    lines += [
        f"| {titles[one.model]} | {cell(one.label)} | {_marked(one.images)} | {one.base:.3f} | {one.head:.3f} | {one.p:.2g} |"
        for one in classes
    ]
    if any(one.images < FEW for one in classes):
        lines += ["", f"few: fewer than {FEW} test images."]
    return "\n".join(lines)


def _marked(images: int) -> str:
    return f"{images} (few)" if images < FEW else str(images)


def _flips(comparison: Comparison) -> str:
    if not comparison.flips:
        return "No image changed between right and wrong."
    counts = Counter((flip.model, flip.head == flip.actual) for flip in comparison.flips)
    words = [
        f"{comparison.titles[model]}: {counts[model, True]} now right, {counts[model, False]} now wrong"
        for model in dict.fromkeys(test.model for test in comparison.gate)
    ]
    lines = [f"<details><summary>Images that changed between right and wrong ({'; '.join(words)})</summary>", ""]
    lines += [
        f"- {comparison.titles[flip.model]}, {code(flip.path)} of class {code(flip.actual)}: predicted {code(flip.base)} before, "
        f"{code(flip.head)} now"
        for flip in comparison.flips[:LISTED]
    ]
    if len(comparison.flips) > LISTED:
        lines.append(f"- and {len(comparison.flips) - LISTED} more")
    return "\n".join([*lines, "", "</details>"])


def _params(comparison: Comparison) -> str:
    if not comparison.params:
        return "No param changed."
    lines = ["| param | base | head |", "|---|---|---|"]
    lines += [f"| {cell(key)} | {_or_empty(old)} | {_or_empty(new)} |" for key, (old, new) in comparison.params.items()]
    return "\n".join(lines)


def _or_empty(value: str | None) -> str:
    return "" if value is None else cell(value)


def as_json(comparison: Comparison) -> str:
    """The comparison as JSON, with the attributes of `Comparison` as keys.

    A headline's difference also has its `value`, head minus base. A changed image has only its kind and its path.
    """
    tree = asdict(comparison)
    for part, headlines in ((tree, comparison.headlines), (tree["over_seeds"], comparison.over_seeds.headlines)):
        for line, entry in zip(headlines, part["headlines"], strict=True):
            entry["difference"] = {**line.difference._asdict(), "value": line.difference.head - line.difference.base}
    tree["data"] = [{"kind": one.kind, "path": data_diff.current(one).path} for one in comparison.data]
    return json_text.dumps(tree)
