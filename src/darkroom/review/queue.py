"""What is to be reviewed: conflicts, look-alikes and suspects, each image once, and the images that they are shown with."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from itertools import chain
from typing import NamedTuple

from darkroom.data import archives, manifest
from darkroom.data.layout import RAW, SIDES
from darkroom.data.manifest import Row
from darkroom.results import suspects
from darkroom.review import decisions, places
from darkroom.system import files
from darkroom.system.errors import UserError

LOOK_ALIKES = "plots/near_duplicates.csv"
BITS = 256  # of a perceptual hash
DOUBTS = ((0.1, "very doubtful"), (0.3, "doubtful"), (1.0, "a little doubtful"))  # up to which score


class Kind(StrEnum):
    """Why an image is shown."""

    CONFLICTS = "conflicts"
    LOOK_ALIKES = "look-alikes"
    SUSPECTS = "suspects"


class Image(NamedTuple):
    """An image of data/manifest.csv. `side` is train, val, test or "left out"."""

    path: str
    sha256: str
    label: str
    side: str


class Entry(NamedTuple):
    """One reason to look at an image.

    Attributes:
        path: Of the image.
        suggested: The class that it may have; "" if nothing says one.
        reason: A sentence.
        others: Path -> what it is to the image.
    """

    path: str
    suggested: str
    reason: str
    others: dict[str, str]


@dataclass
class Item:
    """An image to decide on, and all that is shown with it. Images are numbers in `Queue.images`."""

    image: int
    suggested: str = ""
    reasons: list[str] = field(default_factory=list)
    others: dict[int, str] = field(default_factory=dict)


@dataclass
class Queue:
    """What is to be reviewed.

    Attributes:
        images: All that is shown.
        items: The images to decide on, in order.
        classes: The classes that an image can be given.
        notes: Sentences about what is not in it.
    """

    images: list[Image] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """The images that data/manifest.csv knows.

    Attributes:
        images: By path.
        is_fresh: Whether a path holds the bytes of which the manifest speaks.
    """

    images: Mapping[str, Image]
    is_fresh: Callable[[str], bool]


def build(kinds: Collection[Kind]) -> Queue:
    """What is to be reviewed of these kinds. Images whose bytes have changed since they were found are left out.

    Raises:
        UserError: There is no manifest or no data/raw; or only suspects are wanted, and there is no file of them.
    """
    above = places.depth()
    if not RAW.is_dir():
        raise UserError(f"{RAW} is missing: get it by `dvc pull`, or by `make`")
    rows = manifest.read(None)
    if packed := next(filter(None, (archives.archive_of(RAW / row.path) for row in rows)), None):
        raise UserError(
            f"{packed[0]} is an archive, in which no image can be moved: unpack the archives of {RAW} into class folders, and "
            "run `dvc repro split`"
        )
    known = known_images(rows, above)
    queue = Queue(classes=sorted({image.label for image in known.images.values()} | places.classes(above)))
    found: list[Iterator[Entry | None]] = []
    if Kind.CONFLICTS in kinds:
        found.append(conflicts(known))
    if Kind.LOOK_ALIKES in kinds:
        found.append(look_alikes(known, files.read_csv(LOOK_ALIKES)))
    if Kind.SUSPECTS in kinds and (set(kinds) == {Kind.SUSPECTS} or suspects.SUSPECTS.exists()):
        found.append(of_labels(known, suspects.read()))
    elif Kind.SUSPECTS in kinds:
        queue.notes.append(
            "`darkroom labels` would add the images whose labels look wrong, with the class that looks right and their nearest "
            "neighbours."
        )
    entries = list(chain.from_iterable(found))
    add(queue, known, [entry for entry in entries if entry])
    if stale := entries.count(None):
        queue.notes.append(
            f"{stale} left out, because their files have changed or gone since they were found: run `dvc repro`, and then "
            "`darkroom labels`."
        )
    return queue


def known_images(rows: Sequence[Row], above: int) -> Known:
    """The images of a manifest: those on a side, and copies of them that were left out."""
    readable = {row.sha256 for row in rows if row.split in SIDES}
    images = {
        row.path: Image(row.path, row.sha256, row.label or places.label_of(row.path, above), row.split)
        for row in rows
        if row.sha256 in readable
    }

    @cache
    def is_fresh(path: str) -> bool:
        return places.digest_of(path) == images[path].sha256

    return Known(images, is_fresh)


def conflicts(known: Known) -> Iterator[Entry | None]:
    """The images whose bytes have another label, too."""
    twins = defaultdict(list)
    for image in known.images.values():
        twins[image.sha256].append(image)
    for copies in twins.values():
        if len({image.label for image in copies}) == 1:
            continue
        fresh = [image for image in copies if known.is_fresh(image.path)]
        for image in fresh:
            others = [other for other in fresh if other.label != image.label]
            if others:
                names = ", ".join(sorted({other.label for other in others}))
                reason = f"The same bytes are also in the class {names}."
                yield Entry(image.path, others[0].label, reason, {other.path: "same bytes" for other in others})
        if len({image.label for image in fresh}) == 1:
            yield None


def look_alikes(known: Known, rows: Sequence[Mapping[str, str]]) -> Iterator[Entry | None]:
    """The less protected image of each pair across sides; of a pair with two labels, both."""
    for row in rows:
        pair = [known.images.get(row[column]) for column in ("first", "second")]
        first, second = pair
        if first is None or second is None or not all(known.is_fresh(image.path) for image in (first, second)):
            yield None
            continue
        yield look_alike(first, second, row["distance"])
        if first.label != second.label:
            yield look_alike(second, first, row["distance"])


def look_alike(image: Image, other: Image, distance: str) -> Entry:
    """What is said of an image that has a look-alike on another side."""
    differs = image.label != other.label
    what = f"the class {other.label}" if differs else "the same class"
    reason = (
        f"It is in {image.side} and looks like an image in {other.side} ({distance} of {BITS} bits of their perceptual hashes "
        f"differ), which has {what}."
    )
    return Entry(image.path, other.label if differs else "", reason, {other.path: "look-alike"})


def of_labels(known: Known, ranked: Sequence[suspects.Suspect]) -> Iterator[Entry | None]:
    """The images whose labels confident learning counts as wrong, the most suspicious first."""
    for one in ranked:
        if not one.suspect:
            continue
        image = known.images.get(one.path)
        if image is None or image.sha256 != one.sha256 or not known.is_fresh(one.path):
            yield None
            continue
        doubt = next((words for limit, words in DOUBTS if one.score <= limit), DOUBTS[-1][1])
        others = {path: "neighbour" for path in one.neighbours if path in known.images}
        reason = f"Its label looks {doubt}. Its score is {one.score:.2f}; the lower, the more it looks wrong."
        yield Entry(one.path, one.suggested if one.suggested != image.label else "", reason, others)


def add(queue: Queue, known: Known, entries: Sequence[Entry]) -> None:
    """Put entries into the queue, one item for each image. What was relabelled already is not asked again."""
    numbers: dict[str, int] = {}

    def number_of(path: str) -> int:
        if path not in numbers:
            numbers[path] = len(queue.images)
            queue.images.append(known.images[path])
        return numbers[path]

    decided = defaultdict(list)
    for decision in decisions.read():
        decided[decision.sha256].append(decision)
    items: dict[str, Item] = {}
    for entry in entries:
        image = known.images[entry.path]
        holds = decisions.about(*image[:3], decided[image.sha256])
        if holds and holds.path != image.path:
            continue
        item = items.setdefault(entry.path, Item(number_of(entry.path)))
        item.suggested = item.suggested or entry.suggested
        item.reasons.append(entry.reason)
        for path, what in entry.others.items():
            item.others.setdefault(number_of(path), what)
    queue.items = list(items.values())
