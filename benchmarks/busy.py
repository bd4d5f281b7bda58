"""Training speed on a busy machine, by how long OpenMP's threads spin while they wait.

    python benchmarks/busy.py [--rounds 5] [--steps 10]

A thread of OpenMP that waits for the others first spins for a while, and only then sleeps. While it spins, it keeps a core from
another process that has work to do. That process may even be the training's other thread. GOMP_SPINCOUNT is the number of
spins: 300,000 unless something is set. OMP_WAIT_POLICY=PASSIVE means none.

Measured are steps of EfficientNet-Lite0 in the training loop: 128 px, batches of 32, two threads, portable mode. Each
measurement is a new process. A round is one measurement per situation and environment. In the third situation, the other
training has the same environment, and runs before, during and after the measurement.
"""

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import common
from darkroom.data import demo
from darkroom.system import determinism
from darkroom.system.process import end_with_parent

# darkroom.system.determinism sets GOMP_SPINCOUNT unless it is set. An empty one prevents that, and libgomp ignores it.
UNSET = {"GOMP_SPINCOUNT": ""}
# name -> variables
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing set": UNSET,
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE", **UNSET},
}
QUIET, LOOP, TRAINING = SITUATIONS = ("quiet", "one other busy process", "one other training")
BUSY_LOOP = [sys.executable, "-c", "print('ready', flush=True)\nwhile True: pass"]
ENDLESS = ("--epochs", 10_000)


class Cell(NamedTuple):
    """One measurement."""

    rate: float  # images a second
    losses: str  # a digest of the loss of each step


def main() -> None:
    """Print the table, and write it to busy.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="that are timed, after 3 that are not")
    options = parser.parse_args()
    cells: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "raw"
        demo.lay_out(images)
        for number in range(options.rounds):
            for situation in SITUATIONS:
                for environment in ENVIRONMENTS:
                    cell = measure(situation, environment, images, options.steps)
                    cells[situation, environment].append(cell)
                    print(
                        f"round {number + 1}, {situation}, {environment}: {cell.rate:.1f} images a second", flush=True
                    )
    text = common.table(["environment", *SITUATIONS], rows(cells))
    text += (
        f"\nImages a second of the training that is measured, median (range) of n = {options.rounds} rounds: EfficientNet-Lite0, "
        f"128 px, batches of 32, 2 threads, portable mode, {options.steps} steps after 3 that are not timed. {verdict(cells)} "
        f"Darkroom sets GOMP_SPINCOUNT={determinism.SPINS}. "
        f"{common.here('torch')}. `python benchmarks/busy.py --rounds {options.rounds} --steps {options.steps}`\n"
    )
    common.publish(text, options.results / "busy.md")


def measure(situation: str, environment: str, images: Path, steps: int) -> Cell:
    """One training of `steps` steps in a new process."""
    arguments = ("ours.py", images, "lite0", "portable", 1000, "--steps", steps)
    extra = ENVIRONMENTS[environment]
    training = common.contender_command(*arguments, *ENDLESS)
    other = {QUIET: None, LOOP: BUSY_LOOP, TRAINING: training}[situation]
    with running(other, common.contender_variables(extra)):
        _, losses, _, rate = common.run_contender(*arguments, extra=extra).split()
    return Cell(float(rate), losses)


@contextmanager
def running(command: Sequence[str] | None, variables: Mapping[str, str]) -> Iterator[None]:
    """Keep `command`, if there is one, running from the moment that it prints "ready" until the block ends.

    Exits if the command ends before that, for then not all of the block was disturbed.
    """
    if command is None:
        yield
        return
    process = subprocess.Popen(
        command,
        cwd=common.ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,  # else it would run for ever if this benchmark were killed
    )
    try:
        started = process.stdout is not None and process.stdout.readline() == "ready\n"
        if started:
            yield
        if not started or process.poll() is not None:
            sys.exit("the other process ended too early")
    finally:
        process.kill()
        process.wait()


def rows(cells: Mapping[tuple[str, str], Sequence[Cell]]) -> Iterator[list[str]]:
    """A row per environment, with the images a second of each situation."""
    for environment in ENVIRONMENTS:
        rates = ([cell.rate for cell in cells[situation, environment]] for situation in SITUATIONS)
        yield [environment, *(common.spread(of_situation, ".1f") for of_situation in rates)]


def verdict(cells: Mapping[tuple[str, str], Sequence[Cell]]) -> str:
    """Whether all measurements had the same losses."""
    every = [cell.losses for of_cell in cells.values() for cell in of_cell]
    different = len(set(every))
    if different == 1:
        return f"The losses of all {len(every)} measurements were the same bytes."
    return (
        f"The losses were NOT the same bytes: {len(every)} measurements had {different} different sequences of losses."
    )


if __name__ == "__main__":
    main()
