"""The figures of `darkroom score` as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from darkroom.evaluation import conformal, unpaired
from darkroom.evaluation.per_class import FEW
from darkroom.evaluation.titles import METRICS, figure
from darkroom.system.markdown import cell

ON_TEST = "the images are those of test"
LISTED = 30  # classes in the table, the ones with the lowest recall if there are more
TITLES = {
    **METRICS,
    "log_loss": "log loss",
    "coverage": f"sets at {conformal.ERROR_RATE:.0%} hold the class",
    "mean_size": "mean size of the sets",
    "sure": "share of sure answers",
    "accuracy_if_sure": "accuracy if sure",
    "unknown": "share of unknown images",
}
METHOD = (
    "Difference: new minus test, two independent sets of images. Its 95 % interval is put together from those of both sides "
    "(Newcombe 1998, method 10; for macro F1, AUROC and log loss Zou and Donner 2008). Each verdict is a test of its own at "
    "5 %. Another mix of classes alone changes the accuracy; the recall of a class does not depend on it."
)


def as_markdown(tree: Mapping[str, Any]) -> str:
    """The figures of `figures.score`, as Markdown."""
    blocks = [
        _opening(tree),
        _figures(tree),
        _classes(tree),
        _groups(tree["of_groups"]),
        *(_column(name, of) for name, of in tree["columns"].items()),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _opening(tree: Mapping[str, Any]) -> str:
    lines = [f"## The {tree['model']} model on {_count(tree['images'], tree['groups'])}", ""]
    if tree["test_images"]:
        lines.append(f"Beside it: {_count(tree['test_images'], tree['test_groups'])} of test.")
    elif tree["no_test"] == ON_TEST:
        lines.append("These are the images of test.")
    else:
        lines.append(f"There are no figures of test beside these: {tree['no_test']}.")
    copies = tree["copies"]
    if flattering := copies.get("train", 0) + copies.get("val", 0):
        lines.append(
            f"**{flattering:,} of the images are exact copies of images in train or val ({copies['train']:,} and "
            f"{copies['val']:,}), which makes all figures look better than they are.**"
        )
    if copies.get("test"):
        lines.append(f"{copies['test']:,} are exact copies of test images, so that the two sets are not independent.")
    if tree["failed"]:
        lines.append(f"Files that could not be read, and count nowhere: {len(tree['failed']):,}.")
    if tree["groups"]:
        lines.append("Intervals and verdicts count groups, not images.")
    return "\n".join(lines).rstrip()


def _count(images: int, groups: int | None) -> str:
    return f"{images:,} images" + (f" of {groups:,} groups" if groups else "")


def _figures(tree: Mapping[str, Any]) -> str:
    if not tree["test_images"]:
        lines = ["| figure | value (95 %) |", "|---|---:|"]
        return "\n".join(lines + [f"| {TITLES[name]} | {figure(of['new'])} |" for name, of in tree["figures"].items()])
    lines = ["| figure | new (95 %) | test (95 %) | difference (95 %) | verdict |", "|---|---:|---:|---:|---|"]
    for name, of in tree["figures"].items():
        cells = [TITLES[name], figure(of["new"]), figure(of["test"]), _change(of["difference"]), _bold(of["verdict"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", METHOD, *_reasons(of["verdict"] for of in tree["figures"].values())])


def _reasons(verdicts: Iterator[str]) -> Iterator[str]:
    there = set(verdicts)
    if "too few" in there:
        yield (
            f"Too few: fewer than {unpaired.FEWEST_IMAGES} images or {unpaired.FEWEST_UNITS} groups on a side, or, for means "
            f"over classes, fewer than {unpaired.FEWEST_OF_A_CLASS} images of a class."
        )
    if "other classes" in there:
        yield "Other classes: the two sides have images of different classes, so that means over classes mean different things."


def _change(of: Mapping[str, float] | None) -> str:
    if of is None or of["value"] != of["value"]:
        return ""
    return f"{of['value']:+.3f}" + (f" ({of['low']:+.3f} to {of['high']:+.3f})" if "low" in of else "")


def _bold(verdict: str) -> str:
    return f"**{verdict}**" if verdict in ("better", "worse", "higher", "lower") else verdict


def _classes(tree: Mapping[str, Any]) -> str:
    rows = [row for row in tree["classes"] if row["images"]]
    shown = rows if len(rows) <= LISTED else sorted(rows, key=lambda row: row["recall"]["value"])[:LISTED]
    beside = tree["test_images"] is not None
    extra = " test images | recall on test (95 %) | p (Holm) | verdict |" if beside else ""
    lines = [
        f"| class | images | precision | recall (95 %) |{extra}",
        "|---|---:|---:|---:|" + "---:|---:|---:|---|" * beside,
    ]
    for row in shown:
        few = " (few)" if row["images"] < FEW else ""
        precision = "" if row["precision"] is None else f"{row['precision']:.3f}"
        cells = [cell(row["class"]), f"{row['images']:,}{few}", precision, figure(row["recall"])]
        if beside:
            p = "" if row["p"] is None else f"{row['p']:.2g}"
            cells += [f"{row['test_images']:,}", figure(row["test_recall"]), p, _bold(row["verdict"])]
        lines.append(f"| {' | '.join(cells)} |")
    notes = []
    if len(shown) < len(rows):
        notes.append(f"The {len(shown)} classes with the lowest recall, of {len(rows)}; `--json` has all.")
    if absent := len(tree["classes"]) - len(rows):
        notes.append(f"{absent} of the model's classes have no image here.")
    if beside:
        notes.append(
            "p: whether the recall differs from that on test, by Newcombe's interval, adjusted for the number of classes by "
            f"Holm's method. There is none with fewer than {unpaired.FEWEST_UNITS} images or groups of the class on a side."
        )
    return "\n".join([*lines, "", " ".join(notes)]).rstrip()


def _groups(of: Mapping[str, Any] | None) -> str:
    if of is None:
        return ""
    mixed = f" {of['mixed']:,} groups with images of several classes are left out." if of["mixed"] else ""
    if of["accuracy"] is None:
        return f"No figure per group:{mixed}"
    return (
        f"**Per group**: the class with the highest mean probability over the group's images is right in "
        f"{figure(of['accuracy'])} of {of['groups']:,} groups.{mixed}"
    )


def _column(name: str, of: Mapping[str, Any]) -> str:
    if not of["values"]:
        return f"No two images have the same value of {cell(name)}."
    grouped = any(row["groups"] for row in of["values"])
    header = f"| {cell(name)} | images |{' groups |' * grouped} accuracy (95 %) | unknown (95 %) |"
    lines = [header, "|---|---:|" + "---:|" * grouped + "---:|---:|"]
    for row in of["values"]:
        few = " (few)" if row["images"] < FEW else ""
        groups = [f"{row['groups'] or row['images']:,}"] * grouped
        value = cell(row["value"]) if row["value"] else "(empty)"
        cells = [value, f"{row['images']:,}{few}", *groups, figure(row["accuracy"]), figure(row["unknown"])]
        lines.append(f"| {' | '.join(cells)} |")
    if of["others"]:
        lines += ["", f"And {of['others']:,} values with fewer images."]
    return "\n".join(lines)
