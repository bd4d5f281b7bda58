"""`darkroom review --apply` and `--undo`: files of data/raw move as it was decided, and back."""

import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import typer

from darkroom.data.layout import RAW
from darkroom.review import decisions, journal, moves, places, tables
from darkroom.review.decisions import DECISIONS, Decision
from darkroom.review.journal import Journal, Step
from darkroom.system import files, git
from darkroom.system.errors import UserError

LISTED = 20  # files of a plan that are named
BUSY = "another `darkroom review --apply` or `--undo` is at work here: wait until it ends"
NEXT = """\
Next:
  dvc add data/raw
  dvc repro
  git add -A && git commit -m "Labels reviewed"
`darkroom review --undo` takes it back."""
BACK = "It is undone. If you ran `dvc add data/raw` meanwhile, run it again, and then `dvc repro`."


def apply(yes: bool) -> None:
    """Move and remove the files as it was decided, after saying what will be done.

    Args:
        yes: Ask nothing.

    Raises:
        UserError: A file has changed, a place is taken, an undo was interrupted, or nobody can be asked.
    """
    git.refuse_elsewhere()
    with decisions.locked("review-apply", BUSY):
        begun = journal.last()
        if begun and begun.state == "undoing":
            raise UserError("an undo was interrupted: run `darkroom review --undo`, which goes on with it")
        if begun and begun.state == "applying":
            print("The last `darkroom review --apply` was interrupted. It goes on with:")
        else:
            begun = None
        run = begun or plan()
        if not run.steps:
            print("Nothing is to be moved or removed.")
            return
        print(described(run))
        agree(yes)
        if begun is None:
            journal.begin(run)
        carry_out(run)
        print(NEXT)


def undo(yes: bool) -> None:
    """Reverse the last apply, after saying what will be done.

    Raises:
        UserError: There is none, a file has changed since, or nobody can be asked.
    """
    git.refuse_elsewhere()
    with decisions.locked("review-apply", BUSY):
        run = journal.last()
        if run is None:
            raise UserError("there is nothing to undo: `darkroom review --apply` has done nothing here")
        back = [step for step in run.steps if is_to_go_back(step)]
        removed = sum(not step.moved for step in back)
        print(
            f"Images that go back to the class they had: {len(back) - removed:,}. Removed images that come back: {removed:,}."
        )
        agree(yes)
        run = journal.enter(run, "undoing")
        for step in reversed(back):
            moves.move(Path(step.target), Path(step.source))
        for table in tables.TABLES:
            restore(table, run)
        moves.remove_empty(map(Path, run.folders))
        journal.enter(run, "undone")
        print(BACK)


def agree(yes: bool) -> None:
    """Ask whether to go on.

    Raises:
        UserError: Nobody can be asked.
        typer.Exit: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nothing is done, because there is no terminal to ask on: add --yes")
    if not typer.confirm("Go on?"):
        print("Nothing is done.")
        raise typer.Exit(1)


def plan() -> Journal:
    """What the decisions ask for and is not done yet. Decisions about other bytes are left out, with a sentence."""
    above = places.depth()
    name = journal.next_name(decisions.now())
    steps: list[Step] = []
    taken = {path.lower() for table in tables.TABLES if table.exists() for path in tables.paths(table.read_bytes())}
    stale = 0
    for decision in decisions.read():
        check(decision)
        if decision.decision not in ("relabel", "remove") or not os.path.lexists(RAW / decision.path):
            continue
        if places.digest_of(decision.path) != decision.sha256:
            stale += 1
            continue
        if decision.decision == "relabel" and places.label_of(decision.path, above) != decision.label:
            moved = free(places.relabelled(decision.path, decision.label, above), taken)
            taken.add(moved.lower())
            steps.append(step(decision, moved, RAW / moved))
        elif decision.decision == "remove":
            steps.append(step(decision, "", journal.REMOVED / name / decision.path))
    if stale:
        print(f"Decisions left out, because their files have other bytes now: {stale:,}. Review these images again.")
    folders = [str(folder) for folder in moves.missing_folders(Path(one.target) for one in steps)]
    return Journal(name, "applying", steps, folders)


def check(decision: Decision) -> None:
    """Check that a decision moves nothing out of data/raw. data/review.csv may come from a stranger.

    Raises:
        UserError: It would.
    """
    label = decision.label
    is_folder = not label.startswith(".") and not {"/", "\\", "\0"} & set(label)
    if not places.is_inside(decision.path) or not is_folder or (decision.decision == "relabel") != bool(label):
        raise UserError(
            f"{DECISIONS} names no image or no class of {RAW} in the row of {decision.path!r}: mend or remove it"
        )


def step(decision: Decision, moved: str, target: Path) -> Step:
    """What is to be done for a decision."""
    return Step(decision.path, moved, (RAW / decision.path).as_posix(), target.as_posix(), decision.sha256)


def free(path: str, taken: set[str]) -> str:
    """`path`, or the same with a number if it is taken by a file, by another one that moves, or by a row of a table.

    `taken` is in lower case, because some file systems do not tell a from A.
    """
    wanted, number = PurePosixPath(path), 1
    while path.lower() in taken or os.path.lexists(RAW / path):
        number += 1
        path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}").as_posix()
    return path


def described(run: Journal) -> str:
    """What will be done, as text. Names are quoted, because they may hold control characters."""
    above = places.depth()
    relabelled = Counter(
        (places.label_of(one.path, above), places.label_of(one.moved, above)) for one in run.steps if one.moved
    )
    removed = [one for one in run.steps if not one.moved]
    lines = []
    if relabelled:
        lines.append(f"Images to relabel: {relabelled.total():,}. They move within {RAW}.")
    lines += [f"  from {old!r} to {new!r}: {count:,}" for (old, new), count in sorted(relabelled.items())]
    if removed:
        lines.append(f"Images to remove: {len(removed):,}. They move to {journal.REMOVED / run.name}.")
    lines += [f"  {one.path!r} -> {repr(one.moved) if one.moved else 'removed'}" for one in run.steps[:LISTED]]
    if len(run.steps) > LISTED:
        lines.append(f"  and {len(run.steps) - LISTED:,} more")
    for table in tables.TABLES:
        if table.exists() and (count := len(tables.paths(table.read_bytes()) & set(run.moves))):
            lines.append(f"Rows of {table}, a file of Git, that get the new path: {count:,}.")
    return "\n".join(lines)


def carry_out(run: Journal) -> None:
    """Do what a journal says, as far as it is not done.

    Raises:
        UserError: A file has changed, or a place is taken. What was done until then stays done.
    """
    left = [one for one in run.steps if not moves.is_moved(Path(one.source), Path(one.target), one.sha256)]
    for one in left:
        moves.move(Path(one.source), Path(one.target))
    for table in tables.TABLES:
        rewrite(table, run.moves)
    journal.enter(run, "applied")


def is_to_go_back(one: Step) -> bool:
    """Whether a step was done and is not undone.

    Raises:
        UserError: The file has changed since, or its old place is taken.
    """
    source, target = Path(one.source), Path(one.target)
    if moves.holds(source, one.sha256) and not (one.moved and os.path.lexists(target)):
        return False  # it never moved, or `dvc checkout` has put it back
    return not moves.is_moved(target, source, one.sha256)


def rewrite(table: Path, renames: Mapping[str, str]) -> None:
    """Give the rows of a table the new paths of images."""
    if table.exists() and set(renames) & tables.paths(before := table.read_bytes()):
        files.write_bytes(table, tables.renamed(before, renames))


def restore(table: Path, run: Journal) -> None:
    """Undo `rewrite`: byte for byte if the table was not edited since, else row by row."""
    saved = run.saved_table(table)
    if not (table.exists() and saved.exists()):
        return
    before = saved.read_bytes()
    if table.read_bytes() == tables.renamed(before, run.moves):
        if table.read_bytes() != before:
            files.write_bytes(table, before)
    else:
        rewrite(table, {new: old for old, new in run.moves.items()})
