"""A comparison as Markdown, for pull requests and terminals, and as JSON, for programs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest

from darkroom.comparison import data_diff, look_alikes, names, opening
from darkroom.comparison.compare import Comparison, Flip
from darkroom.comparison.over_seeds import DIFFERENT, GATE
from darkroom.comparison.verdicts import GONE, NEW, ClassChange, Headline
from darkroom.evaluation import seed_runs
from darkroom.evaluation.per_class import FEW
from darkroom.evaluation.titles import METRICS
from darkroom.system import json_text
from darkroom.system.markdown import cell, code

SMALL = 100  # test images; with fewer, the report says that only large differences can show
LISTED = 20  # flips that the Markdown lists, of all models together
OF_MODELS = (
    "p: two-sided mid-p of the paired randomisation test, which for the accuracies is McNemar's. Each verdict is a test of "
    "its own at 5 %, so that a single one may be chance; `--fail-on worse` is adjusted for the number of models and classes. "
    "Where an interval would mislead, as for few images or the calibration error, there is none."
)
NO_AUROC = (
    "AUROC is not compared: of so many images and classes, `plots/predictions.csv` does not have the probability of each class. "
    "`metrics/evaluate.json` has each side's, with its interval."
)


def as_markdown(comparison: Comparison, flips: bool = True) -> str:
    """The comparison as GitHub's Markdown, with or without the list of images that changed between right and wrong."""
    shown = names.for_markdown(comparison)
    blocks = [
        f"## {code(shown.base)} to {code(shown.head)}",
        opening.line(shown),
        opening.explained(shown),
        tested(shown),
        data_diff.markdown(shown.data, shown.base, shown.head).strip() if shown.data else "",
        seeds(shown),
        models(shown),
        look_alikes_of(shown),
        flipped(shown) if flips else "",
        params(shown),
        stages(shown),
        "" if shown.data else data_diff.markdown([], shown.base, shown.head).strip(),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def tested(comparison: Comparison) -> str:
    """On which images the two sides are compared, in sentences."""
    base, head, shared = comparison.images["base"], comparison.images["head"], comparison.images["shared"]
    lines = []
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
            f"**The two were computed on different kinds of machines** (base: {code(old)}; head: {code(new)}). That alone can "
            "make a difference."
        )
    if shared < SMALL:
        lines.append(
            f'**With {shared} images only large differences can show. "No evidence" does not mean that there is no difference.**'
        )
    return "\n".join(lines)


def seeds(comparison: Comparison) -> str:
    """The verdicts over seeds: figures that differ, and classes that changed. "" if there are no seeds."""
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
            _headlines(
                [one for one in seeds.headlines if one.difference.base != one.difference.head], comparison.titles
            ),
            " ".join(notes),
            _classes(seeds.classes, comparison.titles),
        ]
    )


def models(comparison: Comparison) -> str:
    """The verdicts on the two trained models: the figures of those whose predictions differ, and the classes that changed."""
    return "\n\n".join([about_the_models(comparison), *figures(comparison), classes(comparison)])


def figures(comparison: Comparison) -> list[str]:
    """A table of the figures of the models whose predictions differ, and a line for the others."""
    lines = [one for one in comparison.headlines if one.model not in comparison.same]
    same = ", ".join(comparison.titles[model] for model in comparison.same)
    table = [_headlines(lines, comparison.titles), OF_MODELS] if lines else []
    found = {one.metric for one in lines if one.verdict not in (NEW, GONE)}
    if "macro_f1" in found and "auroc" not in found:
        table.append(NO_AUROC)
    return [*table, *([f"The same predictions on both sides: {same}."] if same else [])]


def classes(comparison: Comparison) -> str:
    """A table of the classes that changed by more than chance between the two trained models."""
    return _classes(comparison.classes, comparison.titles)


def about_the_models(comparison: Comparison) -> str:
    """What a verdict on the two trained models means, and how to judge the change itself."""
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


def look_alikes_of(comparison: Comparison) -> str:
    """The look-alikes across train and test, with the accuracies of the models whose predictions differ."""
    found = comparison.look_alikes
    accuracies = [one for one in found.accuracies if one.model not in comparison.same]
    return look_alikes.markdown(replace(found, accuracies=accuracies), comparison.images, comparison.titles)


def flip_counts(comparison: Comparison, model: str) -> str:
    """How many images of a model changed between right and wrong, as in `fine-tuned: 3 now wrong, 2 now right`."""
    wrong, right = (
        sum(flip.model == model and (flip.head == flip.actual) is now for flip in comparison.flips)
        for now in (False, True)
    )
    return f"{comparison.titles[model]}: {wrong:,} now wrong, {right:,} now right"


def flipped(comparison: Comparison) -> str:
    """The images that changed between right and wrong, folded: the same number of each model."""
    if not comparison.flips:
        return "No image changed between right and wrong."
    models = dict.fromkeys(flip.model for flip in comparison.flips)
    words = "; ".join(flip_counts(comparison, model) for model in models)
    shown = interleaved(comparison.flips, LISTED)
    lines = [f"<details><summary>Images that changed between right and wrong ({words})</summary>", ""]
    lines += [
        f"- {comparison.titles[flip.model]}, {code(flip.path)} of class {code(flip.actual)}: predicted {code(flip.base)} before, "
        f"{code(flip.head)} now"
        for flip in shown
    ]
    if len(comparison.flips) > len(shown):
        lines.append(f"- and {len(comparison.flips) - len(shown):,} more; `darkroom compare --json` has all")
    return "\n".join([*lines, "", "</details>"])


def interleaved(flips: Sequence[Flip], most: int) -> list[Flip]:
    """At most `most` of the flips: in turn one of each model that is now wrong, and one of each that is now right."""
    queues: dict[tuple[bool, str], list[Flip]] = {}
    for flip in flips:
        queues.setdefault((flip.head == flip.actual, flip.model), []).append(flip)
    turns = [queues[key] for key in sorted(queues, key=lambda key: key[0])]
    found = [flip for turn in zip_longest(*turns) for flip in turn if flip is not None]
    return found[:most]


def params(comparison: Comparison) -> str:
    """A table of the params that differ."""
    if not comparison.params:
        return "No param changed."
    lines = ["| param | base | head |", "|---|---|---|"]
    lines += [f"| {cell(key)} | {_or_empty(old)} | {_or_empty(new)} |" for key, (old, new) in comparison.params.items()]
    return "\n".join(lines)


def stages(comparison: Comparison) -> str:
    """The stages that DVC would run because of the change."""
    if not comparison.stages:
        return ""
    return f"Stages whose command, code, data or params differ: {', '.join(map(code, comparison.stages))}."


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
