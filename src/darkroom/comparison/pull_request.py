"""The report for the reviewers of a pull request: what changed, what it did, and the charts, in one Markdown file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from darkroom.comparison import (
    compare,
    confusion,
    data_diff,
    gate,
    look_alikes,
    names,
    opening,
    provenance,
    text,
    thumbnails,
)
from darkroom.comparison.compare import Comparison
from darkroom.comparison.opening import Around
from darkroom.data.layout import RAW
from darkroom.data.manifest import path_in_side
from darkroom.evaluation import seed_runs
from darkroom.results import revision
from darkroom.results.revision import Revision
from darkroom.system import dvc, files, git
from darkroom.system.errors import UserError
from darkroom.system.markdown import cell, code
from darkroom.system.rebuilt import Rebuilt

FOLDER = Path("report")  # ignored by Git
PAGE = FOLDER / "index.html"  # what `darkroom page` writes
CHARTS = ("confusion", "roc", "reliability", "curves", "tsne")
COUNTS = 22  # lines of the table of changed images
REASONS = 3  # for which the gate is closed; more are counted
PICTURES = ("changes.png", "flips_*.png", "confusion_*.png")  # of an earlier report; they may be about other models
PICTURED = ("added", "removed", "relabelled")  # changes of images that are shown, if there are any
NO_IMAGES = "This machine has none of these images, so there is no picture of them: `dvc pull` gets them."


def write(
    base: str | None,
    prefix: str,
    fail_on: str | None,
    max_drop: Mapping[str, float],
    verified: Path | None = None,
) -> tuple[Path, list[str]]:
    """Compare the work tree with `base`, and write report/report.md and its pictures.

    Args:
        base: A Git revision. None means the commit at which this branch left main.
        prefix: The text before `plots/NAME.png` in the links to the charts: the start of a URL, or a relative path.
        fail_on, max_drop: As in `gate.failures`.
        verified: What `darkroom verify --report` wrote about these results. Without it no stage is called rebuilt.

    Returns:
        The path of the report, and the reasons why the gate closes.

    Raises:
        UserError: One side has no results, they cannot be compared, or `verified` is about other results.
    """
    sides = revision.load(base or revision.default_base()), revision.load(None)
    if fail_on or max_drop:
        gate.refuse_same(*sides)
    record = provenance.load_record(verified, sides[1]) if verified else None
    comparison = compare.compare(*sides)
    reasons = [*provenance.differences(record), *gate.failures(comparison, fail_on, max_drop)]
    for old in chain.from_iterable(map(FOLDER.glob, PICTURES)):
        old.unlink()
    shown = names.for_markdown(comparison)
    around = Around(*gate_in_words(reasons, fail_on, max_drop), *provenance.in_words(record, sides[1]))
    parts = [
        opening.line(shown, around),
        "\n".join([opening.explained(shown, around), *notes(shown, sides)]),
        uncommitted(),
        provenance.contradiction(sides[1]),
        images(shown, sides),
        results(shown),
        *of_each_model(shown, sides),
        provenance.cost(shown, record, sides[1]),
        *folds(shown, sides, record),
        folded("Charts of this branch that differ", charts(sides, prefix)),
    ]
    path = FOLDER / "report.md"
    files.write_bytes(path, "\n\n".join(part.strip() for part in parts if part).encode("utf-8", "replace") + b"\n")
    return path, reasons


def gate_in_words(reasons: Sequence[str], fail_on: str | None, max_drop: Mapping[str, float]) -> tuple[str, list[str]]:
    """The gate as "open", "closed" or "not set", and sentences about it."""
    if reasons:
        more = [f"**The gate is closed** for {len(reasons) - REASONS} more reasons."] if len(reasons) > REASONS else []
        return "closed", [*(f"**The gate is closed.** {reason}." for reason in reasons[:REASONS]), *more]
    options = [
        *([f"--fail-on {fail_on}"] if fail_on else []),
        *(f"--max-drop {key}={by:g}" for key, by in max_drop.items()),
    ]
    if not options:
        return "not set", ["**Gate:** not set. Without `--fail-on` and `--max-drop` no result can close it."]
    return "open", [f"**Gate:** open ({', '.join(map(code, options))}): nothing was found that closes it."]


def notes(comparison: Comparison, sides: tuple[Revision, Revision]) -> list[str]:
    """The last items of the opening: verdicts that rest on look-alikes, what was compared, and where the page is."""
    items = look_alikes.warnings(
        comparison.look_alikes, comparison.titles, "the test images that have a look-alike in train"
    )
    base, head = map(names.side, sides)
    items.append(f"**Compared:** {head} with {base}. {' '.join(text.tested(comparison).splitlines())}")
    if PAGE.is_file():
        items.append(
            f"**Page:** {code(PAGE.name)} in the artifact {code(FOLDER.name)} has every image and every error."
        )
    return [f"- {item}" for item in items]


def uncommitted() -> str:
    """A sentence that says which results in the work tree are not those that the branch has committed. "" if all are."""
    paths = ("dvc.lock", "metrics", "plots", "data/manifest.csv", f":(exclude){seed_runs.PATH}")
    changed = git.read("status", "--porcelain", "--", *paths)
    if not changed:
        return ""
    listed = ", ".join(code(line[3:]) for line in changed.splitlines())
    return (
        f"**The results in the work tree are not those that the branch has committed** ({listed}): run `dvc repro` there and "
        "commit what it changes. The figures below are those of the work tree. The charts are the committed ones."
    )


def images(comparison: Comparison, sides: tuple[Revision, Revision]) -> str:
    """What happened to the images: counts, and a picture. "" if nothing did."""
    if not comparison.data:
        return ""
    shown = [one for one in comparison.data if one.kind in PICTURED] or comparison.data
    path = FOLDER / "changes.png"
    note = thumbnails.of_changes_if_any(shown, sides[0].commit, source(), path)
    counts = data_diff.counts(comparison.data)
    more = (
        ["", f"And {len(counts) - COUNTS} more rows: `darkroom data-diff` prints all."] if len(counts) > COUNTS else []
    )
    lines = ["### Images", "", *counts[:COUNTS], *more]
    return "\n".join([*lines, "", *(picture(path, f"{note}:") if note else [NO_IMAGES])])


def source() -> str | None:
    """Where head's images are: in data/raw, or in DVC's cache or remote if that is missing."""
    return None if RAW.is_dir() else "HEAD"


def picture(path: Path, note: str) -> list[str]:
    """A sentence and a picture, as lines of Markdown. The picture has a line of its own, which comment.yml knows."""
    return [note, "", f"![{path.stem}]({path.name})"]


def results(comparison: Comparison) -> str:
    """The figures that changed: over seeds if there are any, otherwise of the two trained models."""
    if not comparison.over_seeds.missing:
        return text.seeds(comparison)
    return "\n\n".join([text.about_the_models(comparison), *text.figures(comparison)])


def of_each_model(comparison: Comparison, sides: tuple[Revision, Revision]) -> Iterator[str]:
    """For each model whose predictions differ: the images that changed between right and wrong, and both confusion matrices."""
    shared = compare.on_shared(*sides)
    rows = {path_in_side(row): row for row in sides[1].manifest if row.split == "test"}
    for model in shared.both:
        if model in comparison.same:
            continue
        flips = [flip for flip in comparison.flips if flip.model == model]
        lines = [f"### {comparison.titles[model]}", "", f"{text.flip_counts(comparison, model)}.", ""]
        path = FOLDER / f"flips_{model}.png"
        if flips:
            note = thumbnails.of_flips(flips, rows, source(), path)
            lines += picture(path, f"{note}:") if note else [NO_IMAGES]
        path = FOLDER / f"confusion_{model}.png"
        confusion.draw(shared, model, path)
        lines += ["", "What it takes for what, before → now:", "", confusion.markdown(shared, model)]
        yield "\n".join([*lines, "", *picture(path, "The same as a picture:")])


def folds(comparison: Comparison, sides: tuple[Revision, Revision], record: Rebuilt | None) -> Iterator[str]:
    """What a reviewer may want to look up."""
    if comparison.data:
        yield folded("Images, by name", "\n".join(data_diff.files(comparison.data)))
    if comparison.flips:
        yield text.flipped(comparison)
    yield folded("Classes that changed by more than chance", text.classes(comparison))
    if not comparison.over_seeds.missing:
        about = "\n\n".join([text.about_the_models(comparison), *text.figures(comparison)])
        yield folded("The two trained models", about)
    yield folded("Look-alikes across train and test", text.look_alikes_of(comparison))
    yield folded("Params", text.params(comparison))
    yield folded("Metrics: what `dvc metrics diff` finds", metrics_diff(sides[0]))
    yield folded("Where the results of each stage come from", provenance.markdown(record, sides[1]))


def charts(sides: tuple[Revision, Revision], prefix: str) -> str:
    """The charts whose bytes differ from those of base, one a line."""
    paths = {name: f"plots/{name}.png" for name in CHARTS}
    base = {name: git.show(str(sides[0].commit), path) for name, path in paths.items()}
    here = {name: Path(path).read_bytes() if Path(path).is_file() else None for name, path in paths.items()}
    shown = [name for name in CHARTS if here[name] is not None and here[name] != base[name]]
    return "\n".join(f"![{name}]({prefix}{paths[name]})" for name in shown) or "None: all are those of base."


def metrics_diff(base: Revision) -> str:
    """What `dvc metrics diff` finds against `base`, as a table. DVC's own would take names as Markdown."""
    try:
        found = list(rows(str(base.commit)))
    except (UserError, ValueError):
        return f"{code(f'dvc metrics diff {base.name}')} failed. The log has the reason."
    head = ["| file | key | base | head | change |", "|---|---|---:|---:|---:|"]
    return "\n".join([*head, *found]) if found else "No difference."


def rows(base: str) -> Iterator[str]:
    """A row of a table for each metric that differs from the commit `base`."""
    for path, changes in json.loads(dvc.read("metrics", "diff", "--json", base)).items():
        for key, change in changes.items():
            values = (_shown(change.get(side)) for side in ("old", "new", "diff"))
            yield f"| {cell(path)} | {cell(key)} | {' | '.join(values)} |"


def _shown(value: Any) -> str:
    """A value of a table: five digits of a number, as DVC shows it, and anything else as code."""
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else cell(str(value))


def folded(title: str, text: str) -> str:
    """A block of Markdown that GitHub shows after a click on its title."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
