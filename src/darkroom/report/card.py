"""Model cards (Mitchell et al. 2019): models/NAME.md, from files that are in Git. Neither a model nor an image is read.

The same files give the same bytes. A card names no commit: that would change at every commit.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.data import manifest
from darkroom.data.layout import RAW, SIDES, TRACKED
from darkroom.data.manifest import Row
from darkroom.evaluation import per_class
from darkroom.evaluation.per_class import FEW, Classes, OfClass
from darkroom.evaluation.titles import METRICS, figure
from darkroom.system import lock, params
from darkroom.system.errors import UserError
from darkroom.system.files import read_json, write_bytes
from darkroom.system.markdown import cell, code

OWNERS = Path("models/card.yaml")  # what only the owner knows
SECTIONS = {"data": "Where the images come from", "intended_use": "Intended use", "limits": "Limits"}
ONLY_FOR = "only_for"  # the MD5 of the images that the sections are about
LISTED = 20  # classes of a table, the ones with the lowest recall
CALIBRATION = {"ece": METRICS["ece"], "log_loss": "log loss"}

SPLIT_RULE = {
    "hash": "the hash of its content decides, so that no image changes its side when others come or go",
    "shuffle": "a seeded shuffle within each class, as split-folders does it",
    "folders": "the folders of the data set decide",
}


@dataclass(frozen=True)
class Facts:
    """What the committed files say about all models.

    Attributes:
        scores: The content of metrics/evaluate.json.
        classes: The content of plots/per_class.csv, by model and class.
        manifest: The rows of data/manifest.csv.
        stages: The stages of dvc.lock.
        tree: The content of params.yaml.
        owners: The sections of models/card.yaml.
        no_owners: Why there is no such section, for a reader.
        raw: The MD5 of data/raw, as data/raw.dvc has it.
    """

    scores: dict[str, Any]
    classes: dict[str, Classes]
    manifest: list[Row]
    stages: dict[str, Any]
    tree: dict[str, Any]
    owners: dict[str, str]
    no_owners: str
    raw: str


def path(name: str) -> Path:
    """The card of the model `name`."""
    return Path(f"models/{name}.md")


def write(name: str | None = None) -> list[Path]:
    """Write the card of the model `name`, or of every model of the list. Returns the files.

    Raises:
        UserError: There is no such model, it has no results, or models/card.yaml is damaged.
    """
    names = params.models()
    if name is not None and name not in names:
        raise UserError(f"there is no model '{name}' in {params.PARAMS}: its models are {', '.join(names)}")
    facts = _facts()
    chosen = names if name is None else [name]
    for one in chosen:
        write_bytes(path(one), as_markdown(one, facts).encode())
    return [path(one) for one in chosen]


def _facts() -> Facts:
    scores = read_json("metrics/evaluate.json")
    raw = _tracked()
    return Facts(
        scores, per_class.load(), manifest.read(None), lock.read(), params.tree_of_params(), *_owners(raw), raw
    )


def _owners(raw: str) -> tuple[dict[str, str], str]:
    """The sections of models/card.yaml, and what a card says where one is missing. `raw`: the MD5 of the images."""
    if not OWNERS.exists():
        return {}, f"Not stated: there is no {code(str(OWNERS))}."
    tree = params.read(OWNERS) or {}
    if not isinstance(tree, dict) or not all(isinstance(text, str) for text in tree.values()):
        raise UserError(f"{OWNERS} must have texts under {', '.join(SECTIONS)}: mend it")
    if unknown := sorted(str(key) for key in tree.keys() - SECTIONS.keys() - {ONLY_FOR}):
        raise UserError(f"{OWNERS}: {unknown[0]} is no section of a card: use {', '.join(SECTIONS)}")
    if tree.pop(ONLY_FOR, raw) != raw:
        return {}, f"Not stated: {code(str(OWNERS))} is about other images."
    return tree, f"Not stated: {code(str(OWNERS))} has no such section."


def as_markdown(name: str, facts: Facts) -> str:
    """The card of a model.

    Raises:
        UserError: It has no results.
    """
    of_model = facts.scores.get(name)
    if not of_model or name not in facts.classes or f"train_{name}" not in facts.stages:
        raise UserError(f"the model '{name}' has no results yet: run `dvc repro`")
    parts = [
        _what_it_is(name, of_model, facts),
        _owners_section("intended_use", facts),
        _owners_section("limits", facts),
        _data(facts),
        _figures(of_model, facts),
        _classes(facts.classes[name]),
        _probabilities(of_model),
        _doubt(of_model),
        _use(name),
        _provenance(name, of_model, facts),
    ]
    return "\n\n".join(parts) + "\n"


def _what_it_is(name: str, of_model: Mapping[str, Any], facts: Facts) -> str:
    classes = sorted(facts.classes[name])
    shown = ", ".join(map(code, classes[:LISTED])) + (
        f" and {len(classes) - LISTED} more" if len(classes) > LISTED else ""
    )
    section = facts.tree.get(f"train_{name}", {})
    recipe = f" Its backbone is {code(str(section['backbone']))}." if "backbone" in section else ""
    resolution = facts.tree.get("images", {}).get("resolution")
    lines = [
        f"# Model card: {name}",
        "",
        f"An image classifier with {len(classes)} classes: {shown}. Tables call it {code(str(of_model['title']))}."
        f"{recipe} An image is squeezed to {resolution} x {resolution} pixels.",
        "",
        "Written by `darkroom card` from the files that are committed beside it. Do not edit it: write "
        f"{code(str(OWNERS))}, or run the stages again.",
    ]
    return "\n".join(lines)


def _owners_section(key: str, facts: Facts) -> str:
    text = facts.owners.get(key, "").strip()
    return f"## {SECTIONS[key]}\n\n{text or facts.no_owners}"


def _data(facts: Facts) -> str:
    counts = {side: Counter(row.label for row in facts.manifest if row.split == side) for side in SIDES}
    labels = sorted(set().union(*counts.values()), key=lambda label: (-counts["train"][label], label))
    lines = ["## Data", ""]
    if text := facts.owners.get("data", "").strip():
        lines += [text, ""]
    lines += ["| class | train | val | test |", "|---|---:|---:|---:|"]
    lines += [f"| {cell(label)} | {_counts(counts, [label])} |" for label in labels[:LISTED]]
    if len(labels) > LISTED:
        lines.append(f"| {len(labels) - LISTED} smaller classes | {_counts(counts, labels[LISTED:])} |")
    lines += [f"| all | {_counts(counts, labels)} |", "", _split_rule(facts)]
    left_out = sum(1 for row in facts.manifest if row.reason)
    if left_out:
        lines += [
            "",
            f"{left_out:,} files of the data set cannot be used and were left out; data/manifest.csv says why.",
        ]
    return "\n".join(lines)


def _counts(counts: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> str:
    return " | ".join(f"{sum(counts[side][label] for label in labels):,}" for side in SIDES)


def _split_rule(facts: Facts) -> str:
    section = facts.tree["split"]
    rule = f"Side of an image (mode {code(section['mode'])}): {SPLIT_RULE.get(section['mode'], 'see params.yaml')}."
    groups = {side: len({row.group for row in facts.manifest if row.split == side and row.group}) for side in SIDES}
    if any(groups.values()):
        of_sides = ", ".join(f"{groups[side]:,} in {side}" for side in SIDES)
        return f"{rule} Images of a group share a side; there are groups: {of_sides}."
    return f"{rule} There are no groups: each image stands for itself."


def _figures(of_model: Mapping[str, Any], facts: Facts) -> str:
    comparison = facts.scores["comparison"]
    groups = f" of {comparison['groups']:,} groups, which the intervals count" if "groups" in comparison else ""
    lines = [
        "## Figures",
        "",
        f"On the {facts.scores['count']:,} test images{groups}, which decided nothing about the model. The intervals "
        "(95 %) do not include the randomness of training.",
        "",
        "| figure | value (95 %) |",
        "|---|---:|",
    ]
    lines += [f"| {title} | {figure(of_model[key])} |" for key, title in METRICS.items() if key in of_model]
    return "\n".join([*lines, f"| log loss | {figure(of_model['log_loss'])} |"])


def _classes(classes: Classes) -> str:
    """The table of the classes."""
    tested = {label: of for label, of in classes.items() if of.test_images}
    by_recall = sorted(tested, key=lambda label: (tested[label].recall or 0, label))
    lines = ["| class | test images | precision | recall (95 %) | F1 |", "|---|---:|---:|---:|---:|"]
    lines += [_class_row(label, tested[label]) for label in by_recall[:LISTED]]
    notes = list(_class_notes(len(classes) - len(tested), tested, by_recall))
    return "\n".join(["### Each class, the weakest first", "", *lines, *(["", " ".join(notes)] if notes else [])])


def _class_row(label: str, of: OfClass) -> str:
    few = f" ({of.few})" if of.few else ""
    precision, f1 = ("not defined" if value is None else f"{value:.3f}" for value in (of.precision, of.f1))
    return f"| {cell(label)} | {of.test_images:,}{few} | {precision} | {figure(per_class.recall(of))} | {f1} |"


def _class_notes(absent: int, tested: Classes, by_recall: Sequence[str]) -> Iterator[str]:
    judged = [label for label in by_recall if not tested[label].few]
    if judged:
        weakest = judged[0]
        yield f"The weakest class is {code(weakest)}: of its test images {tested[weakest].recall:.1%} are recognised."
    if len(judged) < len(tested):
        yield f"(few): fewer than {FEW} test images, too few to judge a class by."
    if len(by_recall) > LISTED:
        yield f"{len(by_recall) - LISTED} classes with a higher recall are not listed; {per_class.PATH} has all."
    if absent:
        yield f"{absent} classes have no test image."


def _probabilities(of_model: Mapping[str, Any]) -> str:
    before = of_model["uncalibrated"]
    lines = [
        "## Probabilities",
        "",
        f"They are calibrated by one temperature, {of_model['temperature']:g}, which was fitted on val.",
        "",
        "| on test | without it | with it |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {title} | {before[key]['value']:.3f} | {of_model[key]['value']:.3f} |" for key, title in CALIBRATION.items()
    ]
    return "\n".join(lines)


def _doubt(of_model: Mapping[str, Any]) -> str:
    sets = of_model["sets"]
    sure = f"in these it is right in {sets['accuracy_if_sure']:.1%}" if "accuracy_if_sure" in sets else "there is none"
    return "\n".join(
        [
            "## When it does not know",
            "",
            f"- Sets of classes, whose thresholds val chose for an error rate of {sets['error_rate']:.0%}: on test they hold "
            f"the right class in {figure(sets['coverage'])} of images, and have {sets['mean_size']:.2f} classes on average.",
            f"- Sure answers, with the most probable class alone in the set: {sets['sure']:.1%} of test images; {sure}.",
            "- Images that are unlike the training images are refused as unknown: "
            f"{figure(of_model['unknown'])} of test images.",
        ]
    )


def _use(name: str) -> str:
    return "\n".join(
        [
            "## Use it",
            "",
            "```console",
            f"darkroom predict photos/ --model {name}",
            f"darkroom score labelled-images/ --model {name}    # how good it is on images of another site",
            "```",
            "",
            f"`models/{name}.pth` is in DVC: `dvc pull models/{name}.pth` gets it where the project has a remote. To build it "
            f"again: `dvc repro train_{name}`. On the kind of machine named below that gives the same bytes.",
        ]
    )


def _provenance(name: str, of_model: Mapping[str, Any], facts: Facts) -> str:
    stage = facts.stages[f"train_{name}"]
    checkpoint = f"models/{name}.pth"
    rows = {
        f"MD5 of {code(checkpoint)} (dvc.lock)": lock.outs(stage).get(checkpoint, "unknown"),
        f"MD5 of {code(str(RAW))} ({TRACKED})": facts.raw,
        "digest of params and files that it was made from": str(of_model["made_from"]),
        "random seed": str(facts.tree["run"]["seed"]),
        "kind of machine": str(facts.scores["machine"]),
    }
    lines = ["## Provenance", "", "| what | value |", "|---|---|"]
    lines += [f"| {what} | {cell(value)} |" for what, value in rows.items()]
    return "\n".join([*lines, "", f"The commit that last changed this card: `git log -1 --format=%H -- {path(name)}`."])


def _tracked() -> str:
    """The MD5 of data/raw, as data/raw.dvc has it."""
    if not TRACKED.exists():
        return "not tracked"
    outs = params.read(TRACKED).get("outs", [{}])
    return str(outs[0].get("md5", "unknown"))
