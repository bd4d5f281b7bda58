"""`darkroom page`: the results of a revision as one page that stands alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from darkroom.data.layout import RAW, SIDES
from darkroom.pages import charts, figures, layout
from darkroom.pages.figures import OfModels
from darkroom.report import card, gallery, verdict
from darkroom.report.gallery import Gallery
from darkroom.report.verdict import link
from darkroom.results import revision as revisions
from darkroom.results import suspects as suspects_file
from darkroom.results.revision import Revision
from darkroom.results.suspects import Suspect
from darkroom.system import git, lock, params
from darkroom.system.errors import UserError

NAME = "index.html"
LISTED = 40  # classes of a table, and files that were left out
SECTIONS = {
    "verdict": "Verdict",
    "data-set": "Data",
    "training": "Training",
    "errors": "Errors",
    "trust": "Trust",
    "map": "Map",
    "provenance": "Provenance",
}


def write(name: str | None, output: Path, note: str = "") -> Path:
    """Write the page on a revision, or on the work tree for None, and return its path.

    Args:
        name: A Git revision or an experiment.
        output: A folder, or a file whose name ends in .html.
        note: A line that stands above all.

    Raises:
        UserError: There is no such revision, it has no results, or the page cannot be written.
    """
    revision = revisions.load(name)
    path = output if output.suffix == ".html" else output / NAME
    suspects = _suspects(revision)
    pictures = gallery.of_revision(revision, suspects)
    heat, notes = gallery.heat_maps(revision, pictures.rows)
    of_classes = figures.classes(revision)
    drawn = figures.charts_of(revision, of_classes)
    specs: list[dict[str, Any]] = []
    context = {
        "title": f"Darkroom: {_name(revision)}",
        "name": f"Results of {_name(revision)}",
        "sections": list(SECTIONS.items()),
        "mark": note,
        "notes": [*notes, *_missing(pictures)],
        **_verdict(revision, suspects, of_classes),
        **_data(revision, pictures, suspects),
        **_errors(revision, of_classes),
        **_provenance(revision),
        "charts": {place: charts.placed(drawn.get(place, []), specs) for place in SECTIONS},
    }
    data = {
        **pictures.data,
        "heat": heat,
        "figures": {model: {label: of._asdict() for label, of in table.items()} for model, table in of_classes.items()},
        "charts": specs,
        "tested": len(revision.predictions.paths),
        "train": {label: of["train"] for label, of in verdict.counts_by_class(revision).items()},
    }
    layout.write(layout.render("results.html", context, data), path, "--output")
    return path


def _name(revision: Revision) -> str:
    return revision.name if revision.commit is None else f"{revision.name[:40]} ({revision.commit[:10]})"


def _suspects(revision: Revision) -> list[Suspect]:
    """The ranking of `darkroom labels`, of the images that this revision has under the same label; empty if there is none."""
    try:
        ranked = suspects_file.read()
    except UserError:
        return []
    known = {(row.path, row.sha256, row.label) for row in revision.manifest if not row.reason}
    return [one for one in ranked if (one.path, one.sha256, one.label) in known]


def _missing(pictures: Gallery) -> list[str]:
    notes = []
    if len(pictures.rows) < pictures.wanted:
        notes.append(
            f"The page shows {len(pictures.rows):,} of {pictures.wanted:,} images, so that it stays small: mistakes first."
        )
    if pictures.thumbs and len(set(pictures.thumbs)) == 1 < len(pictures.thumbs):
        notes.append("The images are not here: `dvc checkout` or `dvc pull` gets them; then make this page again.")
    return notes


def _verdict(revision: Revision, suspects: Sequence[Suspect], of_models: OfModels) -> dict[str, Any]:
    models = list(revision.titles)
    return {
        "better": verdict.better(revision),
        "models": list(revision.titles.values()),
        "figures": verdict.figures(revision),
        "wrong": [
            (len(gallery.mistakes(revision, model)), link(model=number, show="wrong"))
            for number, model in enumerate(models)
        ],
        "watch": verdict.to_watch(revision, suspects, of_models),
        "tested": len(revision.predictions.paths),
    }


def _data(revision: Revision, pictures: Gallery, suspects: Sequence[Suspect]) -> dict[str, Any]:
    counts = sorted(verdict.counts_by_class(revision).items(), key=lambda item: (-item[1].total(), item[0]))
    rest: Counter[str] = sum((of for _, of in counts[LISTED:]), Counter())
    left_out = [row for row in revision.manifest if row.reason]
    thumb = {row.path: uri for row, uri in zip(pictures.rows, pictures.thumbs, strict=True)}
    pairs = revisions.table(revision, "plots/near_duplicates.csv")
    flagged = [one for one in suspects if one.suspect]
    return {
        "sides": SIDES,
        "counts": counts[:LISTED],
        "counts_left": len(counts[LISTED:]),
        "counts_rest": rest,
        "left_out": left_out[:LISTED],
        "left_out_more": len(left_out[LISTED:]),
        "pairs": [_pair(row, thumb) for row in pairs[: gallery.PAIRS] if "sides" in row],
        "pairs_more": len(pairs[gallery.PAIRS :]),
        "suspects": [{**one._asdict(), "thumb": thumb.get(one.path, "")} for one in flagged[: gallery.SUSPECTS // 2]],
        "suspected": len(flagged),
        "checked": bool(suspects),
    }


def _pair(row: Mapping[str, str], thumb: Mapping[str, str]) -> dict[str, Any]:
    sides = row["sides"].split("-")
    paths = (row["first"], row["second"])
    return {
        "distance": row["distance"],
        "images": [
            {"side": side, "path": path, "thumb": thumb.get(path, "")} for side, path in zip(sides, paths, strict=True)
        ],
    }


def _errors(revision: Revision, of_models: OfModels) -> dict[str, Any]:
    labels = revision.predictions.classes
    ranked = figures.by_recall(revision, of_models)
    return {
        "labels": labels,
        "classes": [_class_row(label, labels.index(label), of_models) for label in ranked[:LISTED]],
        "classes_left": len(ranked[LISTED:]),
        "confusion": [
            figures.confusion_table(revision, model, partial(_cell, number))
            for number, model in enumerate(revision.titles)
        ],
    }


def _cell(model: int, actual: int, predicted: int) -> str:
    return link(model=model, **{"class": actual}, predicted=predicted, show="all")


def _class_row(label: str, k: int, of_models: OfModels) -> dict[str, Any]:
    first = next(iter(of_models.values()))[label]
    return {
        "label": label,
        "link": link(**{"class": k}, show="all"),
        "support": first.test_images,
        "few": first.few,
        "models": [
            {
                **of[label]._asdict(),
                "precision_link": link(model=number, predicted=k, show="wrong"),
                "recall_link": link(model=number, **{"class": k}, show="wrong"),
            }
            for number, of in enumerate(of_models.values())
        ],
    }


def _provenance(revision: Revision) -> dict[str, Any]:
    deps = {path: md5 for stage in revision.lock.values() for path, md5 in lock.deps(stage).items()}
    made = {path: md5 for stage in revision.lock.values() for path, md5 in lock.outs(stage).items()}
    commit = revision.commit or git.read("rev-parse", "HEAD")
    rows = [
        ("commit", commit if revision.commit else f"{commit}, and what the work tree has changed since"),
        (f"MD5 of {RAW}", deps.get(str(RAW), "unknown")),
        *((f"MD5 of models/{model}.pth", made.get(f"models/{model}.pth", "unknown")) for model in revision.titles),
        ("kind of machine", str(revision.scores.get("machine", "unknown"))),
        ("packages", ", ".join(_pins(revision))),
    ]
    read = revisions.content(revision)
    cards = [(title, read(str(card.path(model)))) for model, title in revision.titles.items()]
    return {
        "provenance": rows,
        "commit": commit[:10],
        "is_committed": revision.commit is not None,
        "params": (read(str(params.PARAMS)) or b"").decode("utf-8", "replace"),
        "cards": [(title, layout.as_html(text.decode("utf-8", "replace"))) for title, text in cards if text],
    }


def _pins(revision: Revision) -> list[str]:
    """What the stages depend on among the packages, as NAME==VERSION."""
    read = revisions.content(revision)
    found = [read(f"requirements/{name}.txt") or b"" for name in ("data", "figures", "models")]
    lines = b"\n".join(found).decode().splitlines()
    return [line.split("#")[0].strip() for line in lines if line and not line.startswith("#")]
