"""Look-alikes across train and test: how they change, and the accuracies without the test images that have one in train."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from darkroom.evaluation import bootstrap, metrics, paired
from darkroom.evaluation.said import Said
from darkroom.evaluation.titles import METRICS
from darkroom.results.revision import Revision
from darkroom.system.markdown import code

LISTED = 5  # test images that the Markdown names


@dataclass(frozen=True)
class Pair:
    """A test image of head and the image of head's train set that looks most like it.

    Attributes:
        test: The path of the test image, `class/.../name`.
        train: The path of the other image in data/raw.
    """

    test: str
    train: str


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of one model without the shared test images that have a look-alike, and on these alone.

    Attributes:
        model: Its name in params.yaml.
        metric: A key of `titles.METRICS` that counts right predictions.
        base, head: The share of right predictions on the other images. NaN if there are none.
        p: The two-sided mid-p value of the paired test on the other images. None if there are none.
        verdict: "better", "worse" or "no evidence", by p at 5 %. None without a p.
        verdict_on_all: The same on all shared images.
        base_right, head_right: Number of right predictions on the images that have a look-alike.
    """

    model: str
    metric: str
    base: float
    head: float
    p: float | None
    verdict: str | None
    verdict_on_all: str
    base_right: int
    head_right: int


@dataclass(frozen=True)
class LookAlikes:
    """The look-alikes across train and test in base and head.

    Attributes:
        bits: "base" and "head" -> the number of bits in which the perceptual hashes of look-alikes may differ.
        pairs: "base" and "head" -> number of pairs.
        images: "base" and "head" -> number of test images that have a look-alike. "shared" -> number of the shared test images
            that have one in base or in head.
        new: The test images of head that have one, but not in base. Sorted by path.
        accuracies: Empty if no shared test image has a look-alike.
    """

    bits: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    new: list[Pair] = field(default_factory=list)
    accuracies: list[Accuracy] = field(default_factory=list)


def compare(
    base: Revision,
    head: Revision,
    rows: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    units: np.ndarray,
    both: Mapping[str, tuple[Said, Said]],
    right: Mapping[str, bootstrap.Right],
) -> LookAlikes:
    """Compare the look-alikes of two revisions.

    Args:
        base, head: The revisions.
        rows: int64 (N,) each, the row of each shared test image in the predictions of base and of head.
        labels: int64 (N,), the classes of the shared images.
        units: int64 (N,), their groups, or the images themselves.
        both: Model -> what it says in base and in head about the shared images.
        right: Metric -> function that says which predictions are right.
    """
    sides = {"base": base, "head": head}
    has_one = [np.array([path in side.look_alikes for path in side.predictions.paths], bool) for side in sides.values()]
    found = has_one[0][rows[0]] | has_one[1][rows[1]]
    before = {key for key, has in zip(base.predictions.keys, has_one[0], strict=True) if has}
    new = [
        Pair(path, head.look_alikes[path][0])
        for key, path in zip(head.predictions.keys, head.predictions.paths, strict=True)
        if path in head.look_alikes and key not in before
    ]
    return LookAlikes(
        bits={name: side.params["split"]["near_duplicate"] for name, side in sides.items()},
        pairs={name: sum(map(len, side.look_alikes.values())) for name, side in sides.items()},
        images={**{name: len(side.look_alikes) for name, side in sides.items()}, "shared": int(found.sum())},
        new=sorted(new, key=lambda pair: pair.test),
        accuracies=accuracies(labels, units, both, right, found),
    )


def accuracies(
    labels: np.ndarray,
    units: np.ndarray,
    both: Mapping[str, tuple[Said, Said]],
    right: Mapping[str, bootstrap.Right],
    found: np.ndarray,
) -> list[Accuracy]:
    """The accuracies of each model without the images that have a look-alike (`found`, bool (N,)), and on these alone."""
    if not found.any():
        return []
    return [
        _accuracy(model, metric, function(labels, base.predicted), function(labels, head.predicted), units, found)
        for model, (base, head) in both.items()
        for metric, function in right.items()
    ]


def _accuracy(
    model: str, metric: str, base: np.ndarray, head: np.ndarray, units: np.ndarray, found: np.ndarray
) -> Accuracy:
    """One row of `accuracies`. `base` and `head` say which predictions are right, bool (N,)."""
    others = ~found
    before, after, p, verdict = math.nan, math.nan, None, None
    if others.any():
        before, after = float(base[others].mean()), float(head[others].mean())
        p, verdict = _test(base[others], head[others], units[others])
    _, on_all = _test(base, head, units)
    return Accuracy(model, metric, before, after, p, verdict, on_all, int(base[found].sum()), int(head[found].sum()))


def _test(base: np.ndarray, head: np.ndarray, units: np.ndarray) -> tuple[float, str]:
    """The p value of the paired test, and its verdict."""
    p = paired.accuracy_test(base, head, units).two_sided
    if p >= metrics.LEVEL:
        return p, "no evidence"
    return p, "better" if head.sum() > base.sum() else "worse"


def markdown(found: LookAlikes, tested: Mapping[str, int], titles: Mapping[str, str]) -> str:
    """The look-alikes as Markdown.

    Args:
        found: The look-alikes.
        tested: "base" and "head" -> number of test images.
        titles: Model -> its title in tables.
    """
    if not any(found.pairs.values()):
        return "No look-alikes across train and test were found."
    base, head = (
        f"{found.images[side]:,} of {tested[side]:,} test images ({found.pairs[side]:,} pairs)"
        for side in ("base", "head")
    )
    lines = ["### Test images with a look-alike in train", "", f"In base: {base}. In head: {head}."]
    if found.bits["base"] != found.bits["head"]:
        lines.append(
            f"Look-alikes differ in at most {found.bits['base']} bits in base and in at most {found.bits['head']} in head "
            "(`split.near_duplicate`), so that these numbers cannot be compared."
        )
    if found.new:
        named = [f"{code(pair.test)} (like {code(pair.train)} in train)" for pair in found.new[:LISTED]]
        more = [f"and {len(found.new) - LISTED:,} more"] if len(found.new) > LISTED else []
        lines.append(f"New in head ({len(found.new):,}): {', '.join([*named, *more])}.")
    if found.accuracies:
        lines += ["", *_table(found, titles)]
    return "\n".join(lines)


def _table(found: LookAlikes, titles: Mapping[str, str]) -> list[str]:
    """The accuracies as lines of Markdown. A bold sentence for each verdict that depends on the images with a look-alike."""
    count = f"{found.images['shared']:,}"
    lines = [
        f"The accuracies without the shared test images that have a look-alike in base or head ({count}), and on these alone:",
        "",
        f"| model | metric | base | head | difference | p | verdict | of the {count}, right in base | right in head |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for line in found.accuracies:
        values = (
            ["", "", "", "", ""]
            if line.p is None
            else [
                f"{line.base:.3f}",
                f"{line.head:.3f}",
                f"{line.head - line.base:+.3f}",
                f"{line.p:.2g}",
                str(line.verdict),
            ]
        )
        cells = [titles[line.model], METRICS[line.metric], *values, str(line.base_right), str(line.head_right)]
        lines.append(f"| {' | '.join(cells)} |")
    sentences = warnings(found, titles, "these images")
    return [*lines, *([""] if sentences else []), *sentences]


def warnings(found: LookAlikes, titles: Mapping[str, str], images: str) -> list[str]:
    """A bold sentence for each verdict that is another without the images that have a look-alike, which it calls `images`."""
    return [
        f'**{titles[line.model]}, {METRICS[line.metric]}: the verdict is "{line.verdict_on_all}" with {images} and '
        f'"{line.verdict}" without them.**'
        for line in found.accuracies
        if line.verdict and line.verdict != line.verdict_on_all
    ]
