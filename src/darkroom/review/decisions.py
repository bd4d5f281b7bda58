"""data/review.csv: what people decided about images. One row for each image, sorted by path, so that Git merges it."""

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import filelock

from darkroom.review import places
from darkroom.system import files, git, process
from darkroom.system.errors import UserError

DECISIONS = Path("data/review.csv")
KINDS = ("keep", "relabel", "remove", "unsure")
LONGEST = 500  # characters of a note
PATIENCE = 20  # seconds to wait for another `darkroom review`
FORMULA = tuple("=+-@'")  # with which a spreadsheet takes a cell for a formula, and the mark that prevents it


class Decision(NamedTuple):
    """What was decided about an image.

    Attributes:
        path: In data/raw when it was decided.
        sha256: Of its content. The decision is about these bytes and no others.
        decision: One of `KINDS`.
        label: The class that it shall have, if it is relabelled; else "".
        who: The user's name in Git's configuration.
        when: UTC, ISO 8601, in seconds.
        note: One line.
    """

    path: str
    sha256: str
    decision: str
    label: str
    who: str
    when: str
    note: str


def read() -> list[Decision]:
    """The decisions, sorted by path. Of two about the same image, as a merge may leave them, the later one counts.

    Raises:
        UserError: The file is damaged.
    """
    if not DECISIONS.exists():
        return []
    text = DECISIONS.read_bytes().decode("utf-8", "surrogateescape")
    latest: dict[tuple[str, str], Decision] = {}
    for row in csv.DictReader(io.StringIO(text, newline="")):
        decision = _parsed(row)
        key = decision.path, decision.sha256
        if key not in latest or latest[key].when <= decision.when:
            latest[key] = decision
    return sorted(latest.values())


def _parsed(row: dict[str, str]) -> Decision:
    cells = [row.get(column) for column in Decision._fields]
    if None in row or None in cells or row["decision"] not in KINDS:
        raise UserError(f"{DECISIONS} is damaged at {row.get('path')!r}: mend this row, or `git checkout {DECISIONS}`")
    return Decision(*((cell or "").removeprefix("'") for cell in cells))


def save(decision: Decision) -> None:
    """Write a decision at once. It replaces an earlier one about the same image.

    Raises:
        UserError: The file is damaged, or another process holds it.
    """
    with locked("review", f"another `darkroom review` is writing {DECISIONS}: try again"):
        others = [one for one in read() if (one.path, one.sha256) != (decision.path, decision.sha256)]
        rows = [[_cell(cell) for cell in one] for one in sorted([*others, decision])]
        files.write_csv(DECISIONS, Decision._fields, rows)


def _cell(text: str) -> str:
    """`text` with an apostrophe before it if a spreadsheet would take it for a formula. `read` takes it away."""
    return f"'{text}" if text.startswith(FORMULA) else text


@contextmanager
def locked(name: str, refusal: str) -> Iterator[None]:
    """Hold a lock of this project.

    Raises:
        UserError: Another process holds it; `refusal` is the message.
    """
    process.LOCKS.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(process.LOCKS / f"{name}.lock", timeout=PATIENCE):
            yield
    except filelock.Timeout:
        raise UserError(refusal) from None


def one_line(note: str) -> str:
    """A note as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in note).split())[:LONGEST]


def who() -> str:
    """The user's name in Git's configuration; "" if it has none."""
    try:
        return git.read("config", "user.name")
    except UserError:
        return ""


def now() -> str:
    """The time, UTC, ISO 8601, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def about(path: str, sha256: str, label: str, decided: Iterable[Decision]) -> Decision | None:
    """The decision that holds for an image.

    It is about the same bytes under the same path; or they were relabelled, lie in that class now, and are gone from where they
    were.
    """
    same_bytes = [one for one in decided if one.sha256 == sha256]
    for one in same_bytes:
        if one.path == path:
            return one
    for one in same_bytes:
        if one.decision == "relabel" and one.label == label and places.digest_of(one.path) != sha256:
            return one
    return None
