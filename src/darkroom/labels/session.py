"""One run of `darkroom labels`: from the images of the split to the ranked list."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from darkroom.data import archives, manifest
from darkroom.data import folds as divide
from darkroom.data.layout import MANIFEST, RAW, SIDES, TRACKED
from darkroom.data.manifest import Row
from darkroom.inference import settings
from darkroom.labels import features, folds, ranking
from darkroom.results import suspects
from darkroom.results.revision import LOOK_ALIKES
from darkroom.results.suspects import Suspect
from darkroom.system import files, markdown
from darkroom.system.errors import UserError
from darkroom.system.markdown import cell, code

CLASSES = 20  # in the table, those with the most suspects


def run(top: int) -> None:
    """Rank all images of the split by how wrong their labels look; write `suspects.SUSPECTS` and print the first `top`.

    Raises:
        UserError: There is no split, images moved since, the backbone cannot be had, or all images are of one group.
    """
    rows = [row for row in manifest.read(None) if not row.reason]
    if not rows:
        raise UserError(f"{MANIFEST} lists no image: run `dvc repro split`")
    if not RAW.is_dir():
        raise UserError(
            f"{RAW} is missing: `dvc pull {TRACKED}` gets the images from the remote, and `make` the demo's"
        )
    if moved := [row.path for row in rows if not archives.exists(RAW / row.path)]:
        raise UserError(
            f"{RAW} no longer has {moved[0]!r} ({len(moved):,} images of {MANIFEST} are gone or have another label): run "
            "`dvc add data/raw` and `dvc repro split` first"
        )
    seen = features.of_images(rows, settings.RUN)
    classes = sorted({row.label for row in rows})
    labels = np.searchsorted(classes, [row.label for row in rows])
    found = ranking.rank(*folds.probabilities(seen, labels, units(rows)), labels)
    if not found.can_judge.any():
        raise UserError(
            "no label can be judged: the images of each class are all of one group or of one content; add images of others"
        )
    ranked = _ranked(rows, classes, found, seen)
    suspects.write(ranked)
    lost = Counter(row.label for row, judged in zip(rows, found.can_judge, strict=True) if not judged)
    markdown.show(as_markdown(ranked, top, lost))


def units(rows: Sequence[Row]) -> np.ndarray:
    """What belongs together: images of one group or of one content, and look-alikes."""
    place = {row.path: index for index, row in enumerate(rows)}
    listed = files.read_csv(LOOK_ALIKES) if Path(LOOK_ALIKES).exists() else []
    pairs = [(place.get(pair["first"]), place.get(pair["second"])) for pair in listed]
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    return divide.units([[row.sha256 for row in rows], [row.group for row in rows]], both, folds.FOLDS)


def _ranked(rows: Sequence[Row], classes: Sequence[str], found: ranking.Ranking, seen: np.ndarray) -> list[Suspect]:
    """All images, the most suspicious first. Among equal scores the path decides."""
    wanted = np.flatnonzero(found.suspects).tolist()
    nearest = dict(zip(wanted, ranking.neighbours(seen, wanted, suspects.NEIGHBOURS), strict=True))
    every = [
        Suspect(
            row.path,
            row.sha256,
            row.split,
            row.label,
            classes[found.suggested[index]],
            float(found.scores[index]),
            bool(found.suspects[index]),
            tuple(rows[other].path for other in nearest.get(index, [])),
        )
        for index, row in enumerate(rows)
    ]
    return sorted(every, key=lambda one: (one.score, one.path))


def as_markdown(ranked: Sequence[Suspect], top: int, lost: Counter[str]) -> str:
    """The first `top` of the ranked images, the numbers of suspects, and what to do next.

    Args:
        ranked: All images, the most suspicious first.
        top: How many to name.
        lost: Class -> the number of its images whose labels cannot be judged.
    """
    suspected = [one for one in ranked if one.suspect]
    blocks = [
        f"## {len(suspected):,} of {len(ranked):,} labels look wrong",
        _list(ranked[:top]),
        _counts(ranked, suspected),
    ]
    if lost:
        named = ", ".join(f"{code(label)} ({count:,})" for label, count in sorted(lost.items())[:CLASSES])
        more = f" and {len(lost) - CLASSES} more classes" if len(lost) > CLASSES else ""
        blocks.append(
            f"Not judged, since all images of the class are of one unit (an image, a group, or copies): {named}{more}."
        )
    blocks.append(
        f"The whole list is in {code(str(suspects.SUSPECTS))}. `darkroom review` shows the suspects and mends labels. A simple "
        "model doubts them, and some of them are right. If you mend test labels, later figures are about other labels than "
        "earlier ones: see docs/how-to/labels.md."
    )
    return "\n\n".join(blocks) + "\n"


def _list(first: Sequence[Suspect]) -> str:
    lines = ["| image | side | label | looks like | score | suspect |", "|---|---|---|---|---:|---|"]
    for one in first:
        cells = [cell(one.path), one.split, cell(one.label), cell(one.suggested), f"{one.score:.3f}"]
        lines.append(f"| {' | '.join(cells)} | {'yes' if one.suspect else ''} |")
    return "\n".join(lines)


def _counts(ranked: Sequence[Suspect], suspected: Sequence[Suspect]) -> str:
    """A row per class, those with the most suspects if there are many, and one for all: suspects and images by side."""
    images = Counter((one.label, one.split) for one in ranked)
    found = Counter((one.label, one.split) for one in suspected)
    totals = Counter(one.label for one in suspected)
    labels = sorted({one.label for one in ranked}, key=lambda label: (-totals[label], label))
    lines = [f"| suspects of images | {' | '.join(SIDES)} |", "|---|---:|---:|---:|"]
    for label in labels[:CLASSES]:
        shown = [f"{found[label, side]:,} of {images[label, side]:,}" for side in SIDES]
        lines.append(f"| {cell(label)} | {' | '.join(shown)} |")
    sides, suspect_sides = Counter(one.split for one in ranked), Counter(one.split for one in suspected)
    lines.append(f"| all | {' | '.join(f'{suspect_sides[side]:,} of {sides[side]:,}' for side in SIDES)} |")
    if len(labels) > CLASSES:
        lines += ["", f"The {CLASSES} classes with the most suspects, of {len(labels)}."]
    return "\n".join(lines)
