"""What one `darkroom review --apply` does, written before it is done: by it an interrupted one goes on, and is undone."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from darkroom.review import tables
from darkroom.system import files
from darkroom.system.errors import UserError

FOLDER = Path(".darkroom/review")
REMOVED = Path(".darkroom/removed")
State = Literal["applying", "applied", "undoing", "undone"]


class Step(NamedTuple):
    """A file that moves.

    Attributes:
        path: Of the image in data/raw.
        moved: Its new path there; "" if it is removed.
        source, target: From where to where, relative to the project.
        sha256: Of its content.
    """

    path: str
    moved: str
    source: str
    target: str
    sha256: str


@dataclass(frozen=True)
class Journal:
    """One run of `darkroom review --apply`.

    Attributes:
        name: A number that counts up, and the time at which it began.
        state: How far it is.
        steps: The files that move.
        folders: The folders that it makes, outermost first.
    """

    name: str
    state: State
    steps: list[Step]
    folders: list[str] = field(default_factory=list)

    @property
    def moves(self) -> dict[str, str]:
        """Path -> new path, of the images that stay in data/raw."""
        return {step.path: step.moved for step in self.steps if step.moved}

    def saved_table(self, table: Path) -> Path:
        """Where the table is kept as it was."""
        return FOLDER / self.name / table.name


def next_name(time: str) -> str:
    """The name of a new journal. The number, and not the clock, says which one is the last."""
    numbers = [int(path.stem.partition("-")[0]) for path in FOLDER.glob("*-*.json")]
    return f"{max(numbers, default=0) + 1:05d}-{time.replace(':', '').replace('-', '')}"


def begin(journal: Journal) -> None:
    """Write a journal, after the tables as they are."""
    for table in tables.TABLES:
        if table.exists():
            files.write_bytes(journal.saved_table(table), table.read_bytes())
    _write(journal)


def enter(journal: Journal, state: State) -> Journal:
    """The journal in another state, written."""
    changed = replace(journal, state=state)
    _write(changed)
    return changed


def _write(journal: Journal) -> None:
    content = {**asdict(journal), "steps": [step._asdict() for step in journal.steps]}
    files.write_bytes(FOLDER / f"{journal.name}.json", (json.dumps(content, indent=1) + "\n").encode())


def last() -> Journal | None:
    """The last journal that is not undone; None if there is none.

    Raises:
        UserError: A journal is damaged.
    """
    for path in sorted(FOLDER.glob("*.json"), reverse=True):
        journal = _read(path)
        if journal.state != "undone":
            return journal
    return None


def _read(path: Path) -> Journal:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        steps = [Step(**step) for step in content.pop("steps")]
        return Journal(steps=steps, **content)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: move it away, and look at data/raw by `dvc data status`") from None
