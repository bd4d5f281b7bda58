"""`darkroom watch`: which stage runs, how far it is, the time that is left for all of them, and the curves so far.

It only reads what the stages note in .darkroom/progress, so that it works beside `make`, `dvc repro` and `dvc exp run` alike, and
can be started and ended at any time. TensorBoard and DVCLive would show the curves, too, but neither knows of the other stages.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from darkroom.evaluation.titles import duration
from darkroom.pages import charts, layout
from darkroom.system import git, pipeline, progress

PAGE = Path("report/watch.html")
EVERY = 2.0  # seconds between two looks
RELOAD = 10  # seconds after which the page loads itself anew


class Stage(NamedTuple):
    """How far a stage is.

    Attributes:
        name: As in dvc.yaml.
        state: "running", "done", "stopped" or "waiting".
        done, epochs: Epochs that are done, and in all; 0 for a stage that has none.
        elapsed: Seconds since it was started, or that it took.
        left: Seconds that it will still take, by estimate, None if nothing is known.
    """

    name: str
    state: str
    done: int
    epochs: int
    elapsed: float
    left: float | None


def look(now: float) -> list[Stage]:
    """How far each stage of dvc.yaml is, in order. Those before the one that runs are done, those after it are waiting.

    Args:
        now: The present time, in seconds since 1970.
    """
    stages = pipeline.stages()
    notes = {name: progress.read(name) for name in stages}
    pace = _pace(stages, notes)
    found: list[Stage] = []
    for name, entry in stages.items():
        waits = any(one.state == "running" for one in found)
        found.append(_stage(name, notes[name], _expected(entry, notes[name], pace), now, waits))
    return found


def _runs(note: Mapping[str, Any]) -> bool:
    """Whether the process that wrote the note is alive. A number that a later process has is not it."""
    try:
        return bool(note.get("process")) and psutil.Process(note["process"]).create_time() <= note["started"] + 1
    except psutil.NoSuchProcess:
        return False


def _expected(entry: Mapping[str, Any], note: Mapping[str, Any], pace: float) -> float | None:
    """The seconds that a stage takes: as the last time here, or else as dvc.yaml says, at the pace of the others."""
    if note.get("seconds"):
        return float(note["seconds"])
    usual = entry.get("meta", {}).get("seconds")
    return None if usual is None else pace * float(usual)


def _pace(stages: Mapping[str, Any], notes: Mapping[str, Any]) -> float:
    """How many times as long as dvc.yaml says the stages took that have run here."""
    pairs = [
        (float(notes[name]["seconds"]), float(entry["meta"]["seconds"]))
        for name, entry in stages.items()
        if entry.get("meta", {}).get("seconds") and notes[name].get("seconds")
    ]
    return sum(took for took, _ in pairs) / sum(usual for _, usual in pairs) if pairs else 1.0


def _stage(name: str, note: Mapping[str, Any], expected: float | None, now: float, waits: bool) -> Stage:
    rows, epochs = note.get("rows", []), note.get("epochs", 0)
    if _runs(note):
        elapsed = now - note["started"]
        remaining = max(0.0, expected - elapsed) if expected is not None else None
        if rows:
            remaining = elapsed / len(rows) * (epochs - len(rows))
        return Stage(name, "running", len(rows), epochs, elapsed, remaining)
    if waits or not note:
        return Stage(name, "waiting", 0, epochs, 0.0, expected)
    state = "stopped" if note.get("process") else "done"
    return Stage(name, state, len(rows), epochs, float(note.get("seconds") or 0), 0.0)


def left(stages: Sequence[Stage]) -> str:
    """What is said about the time that is left. DVC skips stages that have not changed, which nobody knows before."""
    first = next((at for at, one in enumerate(stages) if one.state == "running"), None)
    if first is None:
        return "no stage runs now"
    to_come = [one for one in stages[first:] if one.state in ("running", "waiting")]
    known = sum(one.left or 0.0 for one in to_come)
    unknown = [one.name for one in to_come if one.left is None]
    text = f"about {duration(known)} left, if all later stages run"
    return f"{text}; unknown: {', '.join(unknown)}" if unknown else text


def line(stages: Sequence[Stage]) -> str:
    """One line on the stage that runs; "" if none does."""
    for number, one in enumerate(stages, 1):
        if one.state == "running":
            return f"stage {number} of {len(stages)}: {one.name}, {left(stages)}"
    return ""


@contextlib.contextmanager
def announced() -> Iterator[None]:
    """While the block runs, print a line whenever another stage has begun."""
    ended = threading.Event()

    def announce() -> None:
        said = ""
        while not ended.wait(EVERY):
            stages = look(time.time())
            now = next((one.name for one in stages if one.state == "running"), "")
            if now and now != said:
                print(line(stages), flush=True)
            said = now or said

    thread = threading.Thread(target=announce, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def watch() -> None:
    """Show a table that is kept up to date, and write the page with the curves, until Ctrl-C."""
    from rich.live import Live

    git.refuse_elsewhere()
    written: Any = None
    at = 0.0
    print(f"{PAGE} shows the curves in a browser and keeps itself up to date. Ctrl-C ends this; the stages go on.")
    with contextlib.suppress(KeyboardInterrupt), Live(refresh_per_second=2) as live:
        while True:
            stages = look(time.time())
            live.update(table(stages))
            now = [(one.name, one.state, one.done) for one in stages]
            old = time.monotonic() - at > RELOAD and any(one.state == "running" for one in stages)
            if now != written or old:
                write_page(stages)
                written, at = now, time.monotonic()
            time.sleep(EVERY)


def table(stages: Sequence[Stage]) -> Any:
    """The table for a terminal."""
    from rich.table import Table

    shown = Table(title=left(stages))
    for column in ("stage", "state"):
        shown.add_column(column)
    for column in ("epochs", "time", "left"):
        shown.add_column(column, justify="right")
    for one in stages:
        shown.add_row(*cells(one))
    return shown


def cells(one: Stage) -> tuple[str, str, str, str, str]:
    """A row of the table."""
    epochs = f"{one.done} of {one.epochs}" if one.epochs and one.state != "waiting" else ""
    remaining = "" if one.state == "done" else "unknown" if one.left is None else duration(one.left)
    return one.name, one.state, epochs, duration(one.elapsed) if one.elapsed else "", remaining


def write_page(stages: Sequence[Stage]) -> None:
    """The page: the table, and the curves of all trainings of which there are some."""
    listed = charts.plots(pipeline.stages())
    rows = [
        {**{key: str(value) for key, value in row.items()}, "rev": one.name}
        for one in stages
        for row in progress.read(one.name).get("rows", [])
    ]
    about = next((of for path, of in listed.items() if path.startswith("plots/train_")), None)
    drawn = charts.curves(about, rows) if about and rows else []
    specs: list[dict[str, Any]] = []
    context = {
        "title": "Darkroom: watch",
        "sections": [],
        "reload": RELOAD,
        "left": left(stages),
        "rows": [cells(one) for one in stages],
        "charts": charts.placed(drawn, specs),
    }
    layout.write(layout.render("watch.html", context, {"charts": specs}), PAGE, "the page")
