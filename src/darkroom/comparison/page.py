"""A comparison as an HTML page: the verdicts, the images that changed between right and wrong, old and new side by side."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from darkroom.comparison import thumbnails
from darkroom.comparison.compare import Comparison, Flip
from darkroom.comparison.text import as_markdown
from darkroom.data.manifest import Row, path_in_side
from darkroom.pages import charts, figures, layout
from darkroom.pages.thumbnails import as_uri, thumbnail
from darkroom.results import images
from darkroom.results.revision import Revision
from darkroom.system.markdown import abbreviated

SHOWN = 60  # flipped images of each model, and changed images
SIDE = 128  # pixels of a changed image
SECTIONS = {"verdict": "Verdict", "flips": "Changed images", "old-and-new": "Old and new", "data-set": "Data"}
PLACES = ("training", "errors", "trust")  # sections of the results page whose charts are shown


def write(comparison: Comparison, base: Revision, head: Revision, path: Path) -> None:
    """Write a page that needs no other file.

    Raises:
        UserError: `path` cannot be written.
    """
    specs: list[dict[str, Any]] = []
    of_base, of_head = (figures.charts_of(side, figures.classes(side)) for side in (base, head))
    charts.share_scales(of_base["training"], of_head["training"])
    context = {
        "title": f"{abbreviated(comparison.base)} to {abbreviated(comparison.head)}",
        "sections": list(SECTIONS.items()),
        "text": layout.as_html(as_markdown(comparison, flips=False).partition("\n")[2]),  # its heading is the page's
        "flips": [_flips(comparison, model, head) for model in dict.fromkeys(flip.model for flip in comparison.flips)],
        "base": abbreviated(comparison.base),
        "head": abbreviated(comparison.head),
        "confusion": list(_confusion(comparison, base, head)),
        "charts": [
            {"base": charts.placed(of_base[place], specs), "head": charts.placed(of_head[place], specs)}
            for place in PLACES
            if of_base[place] or of_head[place]
        ],
        **_changes(comparison, base, head),
    }
    layout.write(layout.render("comparison.html", context, {"charts": specs}), path, "--html")


def _flips(comparison: Comparison, model: str, head: Revision) -> dict[str, Any]:
    """The images of a model that changed between right and wrong: those that are wrong now come first."""
    rows = {path_in_side(row): row for row in head.manifest if row.split == "test"}
    flips = [flip for flip in comparison.flips if flip.model == model]
    better = sum(flip.head == flip.actual for flip in flips)
    return {
        "title": comparison.titles[model],
        "better": better,
        "worse": len(flips) - better,
        "left": max(0, len(flips) - SHOWN),
        "shown": [_flip(flip, rows[flip.path], head) for flip in flips[:SHOWN]],
    }


def _flip(flip: Flip, row: Row, head: Revision) -> dict[str, Any]:
    return {
        "path": flip.path,
        "actual": flip.actual,
        "base": flip.base,
        "head": flip.head,
        "right": flip.head == flip.actual,
        "thumb": thumbnail(head.commit, row),
    }


def _confusion(comparison: Comparison, base: Revision, head: Revision) -> Iterator[dict[str, Any]]:
    """The confusion matrices of each model, on all test images of each side, unless its predictions are the same."""
    for model, title in comparison.titles.items():
        if model in comparison.same:
            continue
        halves = [
            {
                "side": side,
                "labels": of.predictions.classes,
                "table": figures.confusion_table(of, model, lambda *_: "") if model in of.titles else None,
            }
            for side, of in ((abbreviated(comparison.base), base), (abbreviated(comparison.head), head))
        ]
        yield {"title": title, "halves": halves}


def _changes(comparison: Comparison, base: Revision, head: Revision) -> dict[str, Any]:
    """The images that were added, removed, relabelled or moved: at most `SHOWN`, and of every kind among them."""
    changed = [one for one in comparison.data if one.kind != "left out"]
    shown = thumbnails.choose(changed, SHOWN, lambda one: one.kind)
    tiles = [
        {
            "thumb": as_uri(
                images.fetch(one.new, head.commit) if one.new else images.fetch(one.old, base.commit), SIDE
            ),
            "text": thumbnails.caption(one),
        }
        for one in shown
    ]
    return {"changes": tiles, "changes_note": f"{len(shown):,} of {len(changed):,} changed images."}
