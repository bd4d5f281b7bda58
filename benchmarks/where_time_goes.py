"""Where the time of the default run goes: each stage under Python's profiler, as a tree of calls.

    python benchmarks/where_time_goes.py [--least 5] [--stages NAME ...]

The tree follows the functions of this project, down to those of the libraries that they call, and leaves out what takes less than
`--least` percent of its stage. The time of a function that several others call is divided among them. The profiler sees the main
thread only: what other threads do counts for the function that waits.
"""

import pstats
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import common
import datasets

Function = tuple[str, int, str]  # file, line, name


class Call(NamedTuple):
    """A call in the tree: how deep, of which function, for how many seconds."""

    depth: int
    name: str
    seconds: float


def main() -> None:
    """Run the stages, print the trees, and write them to where_time_goes.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--least", type=float, default=5.0, help="percent of a stage's time")
    parser.add_argument("--stages", nargs="+", default=list(common.stages()))
    options = parser.parse_args()
    trees: dict[str, list[Call]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        project = common.make_project(Path(temporary, "project"))
        datasets.lay_out("demo", project / "data/raw")
        for name in common.stages():
            file = Path(temporary, name)
            print(common.run_contender("profiled_stage.py", name, file, cwd=project), flush=True)
            if name in options.stages:
                trees[name] = list(tree(pstats.Stats(str(file)), options.least / 100))
    total = sum(calls[0].seconds for calls in trees.values())
    rows = [row for name, calls in trees.items() for row in as_rows(name, calls)]
    header = ["stage", "call", "seconds", "share of the stage", "share of all"]
    text = common.table(
        header,
        ([*cells, f"{seconds:.1f}", f"{part:.0%}", f"{seconds / total:.0%}"] for *cells, seconds, part in rows),
        (0, 1),
    )
    note = f"\nn = 1, with the profiler's overhead. {common.here('torch')}. `python benchmarks/where_time_goes.py`\n"
    common.publish(text + note, options.results / "where_time_goes.md")


def as_rows(stage: str, calls: list[Call]) -> Iterator[tuple[str, str, float, float]]:
    """Stage, call, seconds and share of the stage. The stage's name is in its first row only."""
    for index, call in enumerate(calls):
        indent = "&nbsp;" * 4 * call.depth
        yield "" if index else stage, f"{indent}{call.name}", call.seconds, call.seconds / calls[0].seconds


def tree(profile: pstats.Stats, least: float) -> Iterator[Call]:
    """The calls that take at least the share `least` of the time, from the stage on."""
    of_function = profile.stats  # type: ignore[attr-defined]
    callees: dict[Function, list[tuple[float, Function]]] = {}
    for function, (*_, callers) in of_function.items():
        for caller, (*_, seconds) in callers.items():
            callees.setdefault(caller, []).append((seconds, function))
    root = next(function for function in of_function if function[2] == "run_stage")
    total = of_function[root][3]

    def walk(function: Function, seconds: float, above: tuple[Function, ...]) -> Iterator[Call]:
        yield Call(len(above), label(function), seconds)
        if function != root and not is_ours(function):
            return
        share = seconds / of_function[function][3]
        for part, callee in sorted(callees.get(function, []), reverse=True):
            if part * share >= least * total and callee not in above:
                yield from walk(callee, part * share, (*above, function))

    yield from walk(root, total, ())


def is_ours(function: Function) -> bool:
    """Whether it is a function of this project."""
    return "/darkroom/" in function[0]


def label(function: Function) -> str:
    """File and name of a function, such as loop.train_epoch."""
    file, _, name = function
    return f"{Path(file).stem}.{name}" if file != "~" else name.strip("<>").removeprefix("built-in ")


if __name__ == "__main__":
    main()
