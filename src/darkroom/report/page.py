"""`darkroom page`: the results of a revision as one page that stands alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from darkroom.data.layout import RAW, SIDES
from darkroom.evaluation.titles import FEW
from darkroom.pages import charts, layout
from darkroom.pages.charts import Chart
from darkroom.report import card, gallery, verdict
from darkroom.report.gallery import Gallery
from darkroom.report.verdict import link
from darkroom.results import revision as revisions
from darkroom.results import suspects as suspects_file
from darkroom.results.revision import Revision
from darkroom.results.suspects import Suspect
from darkroom.system import git, lock, params, pipeline
from darkroom.system.errors import UserError

NAME = "index.html"
LISTED = 40  # classes of a table, and files that were left out
MATRIX = 30  # classes; with more, the most frequent mistakes are listed instead of a matrix
CURVES = 20  # classes of the ROC chart, those with the lowest recall
SECTIONS = {
    "verdict": "Verdict",
    "data-set": "Data",
    "training": "Training",
    "errors": "Errors",
    "trust": "Trust",
    "map": "Map",
    "provenance": "Provenance",
}
# Where the plots of dvc.yaml stand, by the start of their path. The page draws those in None itself.
PLACES = {
    "data/manifest.csv": "data-set",
    "plots/image_sizes.csv": "data-set",
    "plots/train_": "training",
    "plots/per_class.csv": "errors",
    "plots/predictions.csv": None,
    "plots/near_duplicates.csv": None,
    "plots/tsne.csv": None,
    "plots/": "trust",
}


def write(name: str | None, output: Path) -> Path:
    """Write the page on a revision, or on the work tree for None, and return its path.

    Args:
        name: A Git revision or an experiment.
        output: A folder, or a file whose name ends in .html.

    Raises:
        UserError: There is no such revision, it has no results, or the page cannot be written.
    """
    revision = revisions.load(name)
    path = output if output.suffix == ".html" else output / NAME
    suspects = _suspects(revision)
    pictures = gallery.of_revision(revision, suspects)
    heat, notes = gallery.heat_maps(revision, pictures.rows)
    drawn = _charts(revision)
    of_classes = verdict.classes(revision)
    context = {
        "title": f"Darkroom: {_name(revision)}",
        "name": f"Results of {_name(revision)}",
        "sections": list(SECTIONS.items()),
        "notes": [*notes, *_missing(pictures)],
        **_verdict(revision, suspects),
        **_data(revision, pictures, suspects),
        **_errors(revision, of_classes),
        **_provenance(revision),
        "charts": {place: [] for place in SECTIONS} | drawn,
    }
    numbers = count()
    specs = []
    for place, of_place in drawn.items():
        context["charts"][place] = [{"id": next(numbers), "title": one.title} for one in of_place]
        specs += [one.spec for one in of_place]
    data = {
        **pictures.data,
        "heat": heat,
        "figures": of_classes,
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
            f"The page shows {len(pictures.rows):,} of {pictures.wanted:,} images, so that it stays below 10 MB: mistakes first."
        )
    if pictures.thumbs and len(set(pictures.thumbs)) == 1 < len(pictures.thumbs):
        notes.append("The images are not here: `dvc checkout` or `dvc pull` gets them; then make this page again.")
    return notes


def _verdict(revision: Revision, suspects: Sequence[Suspect]) -> dict[str, Any]:
    models = list(revision.titles)
    return {
        "better": verdict.better(revision),
        "models": list(revision.titles.values()),
        "figures": verdict.figures(revision),
        "wrong": [
            (len(gallery.mistakes(revision, model)), link(model=number, show="wrong"))
            for number, model in enumerate(models)
        ],
        "watch": verdict.to_watch(revision, suspects),
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


def _errors(revision: Revision, of_models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    labels = revision.predictions.classes
    ranked = by_recall(revision, of_models)
    return {
        "labels": labels,
        "classes": [_class_row(label, labels.index(label), of_models) for label in ranked[:LISTED]],
        "classes_left": len(ranked[LISTED:]),
        "confusion": [
            _confusion(revision, model, number, title) for number, (model, title) in enumerate(revision.titles.items())
        ],
    }


def by_recall(revision: Revision, of_models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The classes: those with enough test images to be judged, then those with few, then those with none; the weakest first."""

    def rank(label: str) -> tuple[Any, ...]:
        support = next(iter(of_models.values()))[label]["support"]
        mean = sum(of[label]["recall"] for of in of_models.values())
        return (support < FEW) + (support == 0), mean, label

    return sorted(revision.predictions.classes, key=rank)


def _class_row(label: str, k: int, of_models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    support = int(next(iter(of_models.values()))[label]["support"])
    return {
        "label": label,
        "link": link(**{"class": k}, show="all"),
        "support": support,
        "few": 0 < support < FEW,
        "models": [
            {
                **of[label],
                "precision_link": link(model=number, predicted=k, show="wrong"),
                "recall_link": link(model=number, **{"class": k}, show="wrong"),
            }
            for number, of in enumerate(of_models.values())
        ],
    }


def _confusion(revision: Revision, model: str, number: int, title: str) -> dict[str, Any]:
    labels = revision.predictions.classes
    counts = verdict.confusion(revision, model)

    def place(i: int, j: int) -> str:
        return link(model=number, **{"class": i}, predicted=j, show="all")

    if len(labels) > MATRIX:
        pairs = [
            {"actual": labels[i], "predicted": labels[j], "count": images, "link": place(i, j)}
            for i, j, images in verdict.confused_pairs(counts, LISTED)
        ]
        return {"title": title, "rows": [], "pairs": pairs}
    rows = [
        {
            "label": label,
            "cells": [
                {
                    "count": int(images),
                    "share": round(float(images / max(1, counts[i].sum())), 3),
                    "hit": i == j,
                    "predicted": labels[j],
                    "link": place(i, j),
                }
                for j, images in enumerate(counts[i])
            ],
        }
        for i, label in enumerate(labels)
    ]
    return {"title": title, "rows": rows, "pairs": []}


def _charts(revision: Revision) -> dict[str, list[Chart]]:
    """The charts of the plots in dvc.yaml, by section."""
    listed = charts.plots(pipeline.stages())
    found: dict[str, list[Chart]] = {place: [] for place in SECTIONS}
    curves: list[dict[str, str]] = []
    for path, about in listed.items():
        place = next(place for start, place in PLACES.items() if path.startswith(start))
        rows = _titled(revision, revisions.table(revision, path))
        if path.startswith("plots/train_"):  # all models in one chart, told apart as DVC tells revisions apart
            model = path.removeprefix("plots/train_").removesuffix(".csv")
            curves += [{**row, "rev": revision.titles.get(model, model)} for row in rows]
        elif place and rows:
            found[place] += charts.charts(about, _bounded(revision, path, rows))
    if curves:
        about = next(of for path, of in listed.items() if path.startswith("plots/train_"))
        found["training"] = charts.charts({**about, "title": "By epoch"}, curves)
    return found


def _titled(revision: Revision, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The rows, with the models' titles for their names."""
    return [
        {**row, "model": revision.titles.get(row["model"], row["model"])} if "model" in row else row for row in rows
    ]


def _bounded(revision: Revision, path: str, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of a plot, of the weakest classes only if there are many; of the manifest what its chart counts."""
    if path == "data/manifest.csv":
        return [{"label": row["label"], "split": row["split"]} for row in rows]
    if rows and "class" in rows[0]:
        weakest = set(by_recall(revision, verdict.classes(revision))[:CURVES])
        return [row for row in rows if row["class"] in weakest]
    return rows


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
        "params": (read(str(params.PARAMS)) or b"").decode("utf-8", "replace"),
        "cards": [(title, layout.as_html(text.decode("utf-8", "replace"))) for title, text in cards if text],
    }


def _pins(revision: Revision) -> list[str]:
    """What the stages depend on among the packages, as NAME==VERSION."""
    read = revisions.content(revision)
    found = [read(f"requirements/{name}.txt") or b"" for name in ("data", "figures", "models")]
    lines = b"\n".join(found).decode().splitlines()
    return [line.split("#")[0].strip() for line in lines if line and not line.startswith("#")]
