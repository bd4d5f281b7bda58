"""What a reader of the results should know first: which model is better, and what to watch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple
from urllib.parse import urlencode

from darkroom.data import leaks
from darkroom.evaluation.per_class import FEW
from darkroom.evaluation.titles import METRICS, figure
from darkroom.pages.figures import OfModels
from darkroom.results.revision import Revision
from darkroom.results.suspects import Suspect

WORRYING = 0.05  # calibration error from which the page speaks of it: one answer in twenty is claimed too surely


class Note(NamedTuple):
    """A sentence, and the place in the page that shows what it is about."""

    text: str
    link: str


def better(revision: Revision) -> list[str]:
    """A sentence for each pair of models: which is better, and whether that is chance."""
    comparison, scores = revision.scores["comparison"], revision.scores
    pairs = list(combinations(revision.titles, 2))
    test = f"the paired test of {comparison['groups']:,} groups" if "groups" in comparison else "McNemar's test"
    adjusted = f", adjusted for {len(pairs)} pairs" if len(pairs) > 1 else ""
    sentences = []
    for first, second in pairs:
        pair = comparison[f"{first}_{second}"]
        how = f"p = {pair['p']:.2g}, {test}{adjusted}"
        if pair["better"] in revision.titles:
            winner, other = (first, second) if pair["better"] == first else (second, first)
            values = " against ".join(f"{scores[model]['accuracy']['value']:.3f}" for model in (winner, other))
            title = revision.titles[winner]
            sentences.append(
                f"{title[:1].upper()}{title[1:]} is better than {revision.titles[other]}: accuracy {values}, which is more than "
                f"chance ({how})."
            )
        else:
            sentences.append(
                f"No evidence that {revision.titles[first]} or {revision.titles[second]} is better: the difference may be chance "
                f"({how})."
            )
    return sentences


def figures(revision: Revision) -> list[tuple[str, list[str]]]:
    """The headline metrics: title, and the value of each model with its interval."""
    scores = [revision.scores[model] for model in revision.titles]
    return [
        (title, [figure(of[key]) for of in scores]) for key, title in METRICS.items() if all(key in of for of in scores)
    ]


def to_watch(revision: Revision, suspects: Sequence[Suspect], of_models: OfModels) -> list[Note]:
    """What may be wrong with the models, the data or the figures."""
    return [
        *_weakest(revision, of_models),
        *_calibration(revision),
        *_leaks(revision),
        *_conflicts(revision),
        *_left_out(revision),
        *_suspected(suspects),
        *_numbers(revision),
    ]


def link(**filters: object) -> str:
    """The place in the page that shows the test images for which `filters` hold: model, class, predicted, show, order."""
    return f"#images?{urlencode(filters)}"


def _weakest(revision: Revision, of_models: OfModels) -> Iterator[Note]:
    for number, (model, title) in enumerate(revision.titles.items()):
        judged = {label: of for label, of in of_models[model].items() if not of.few}
        if judged:
            label = min(judged, key=lambda name: (judged[name].recall or 0.0, name))
            of = judged[label]
            images = f"{100 * (of.recall or 0.0):.1f} % of its {of.test_images:,} test images"
            text = f"{title}: the weakest class is {label}; {images} are recognised."
            k = revision.predictions.classes.index(label)
            yield Note(text, link(model=number, **{"class": k}, show="wrong"))


def _calibration(revision: Revision) -> Iterator[Note]:
    for model, title in revision.titles.items():
        error = revision.scores[model]["ece"]["value"]
        how = "is low" if error < WORRYING else "is high: its probabilities are off by that much on average"
        yield Note(f"{title}: the calibration error {error:.3f} {how}.", "#trust")


def _leaks(revision: Revision) -> Iterator[Note]:
    count = len(revision.look_alikes)
    if count:
        yield Note(f"{count:,} test images have a look-alike in train, which may make them easy.", "#look-alikes")
    else:
        yield Note("No test image has a look-alike in train.", "#look-alikes")


def _conflicts(revision: Revision) -> Iterator[Note]:
    used = [row for row in revision.manifest if not row.reason]
    if count := len(leaks.conflicts([row.sha256 for row in used], [row.label for row in used])):
        yield Note(
            f"{count:,} images are there under two labels: `darkroom review --only conflicts` shows them.",
            "#data-set",
        )


def _left_out(revision: Revision) -> Iterator[Note]:
    count = sum(bool(row.reason) for row in revision.manifest)
    if count:
        yield Note(f"{count:,} files of the data set were left out.", "#left-out")


def _suspected(suspects: Sequence[Suspect]) -> Iterator[Note]:
    if not suspects:
        yield Note("Labels were not checked: run `darkroom labels`.", "#suspects")
        return
    found = Counter(one.split for one in suspects if one.suspect)
    if found:
        text = f"{found.total():,} labels look wrong, {found['test']:,} of them in test."
        yield Note(text, "#suspects")


def _numbers(revision: Revision) -> Iterator[Note]:
    groups = revision.scores["comparison"].get("groups")
    if groups:
        yield Note(f"The test images come from {groups:,} groups, which tests and intervals count.", "#provenance")
    else:
        yield Note(
            "Each image counts for itself. If several show the same thing, such as a patient, name the groups: else the "
            "intervals are too short.",
            "#provenance",
        )
    support: Counter[str] = Counter(revision.predictions.actual)
    few = [label for label in revision.predictions.classes if support[label] < FEW]
    if few:
        named = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        yield Note(f"Fewer than {FEW} test images, too few to judge a class by: {named}.", "#classes")


def counts_by_class(revision: Revision) -> dict[str, Any]:
    """Class -> number of images of each side."""
    found: dict[str, Counter[str]] = {}
    for row in revision.manifest:
        if not row.reason:
            found.setdefault(row.label, Counter())[row.split] += 1
    return dict(sorted(found.items()))
