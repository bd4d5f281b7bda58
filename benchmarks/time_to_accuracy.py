"""Seconds from a cold start to a given test accuracy: the stage train_finetune as committed, fastai, and timm's train script.

    python benchmarks/time_to_accuracy.py [--data demo digits typefaces] [--who ours fastai timm] [--seeds 1 2 3 4 5]
    python benchmarks/time_to_accuracy.py --choose fastai --peers .venv-bench/bin/python   # a peer's settings, by val

All have the same backbone, weights, split, resolution, flips and batch size. Each run is a new process; the contenders take
turns. Stored runs with other seeds are kept. After each epoch, with the clock stopped, the accuracy on test is taken; all
contenders average their predictions over the same mirror images. A run that never reaches the accuracy counts as infinitely long.
timm's train.py is no part of its package: `--timm FOLDER` names a copy of timm's repository. Without one, timm is left out.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

from scipy import stats

import common
import datasets
from darkroom.system import files

NOTES = """
n seeds each; means with the 95 % interval over seeds (Student's t). Other test images would add to the interval: about 2 points
on the demo. The accuracy in the end is the last epoch's, while the stage keeps the epoch that val chose. The targets of digits
and typefaces were set after the first runs.
`python benchmarks/time_to_accuracy.py --data NAME --who WHO ... --seeds K ...`
"""


@dataclass(frozen=True)
class Task:
    """A data set, and the accuracy to reach on it.

    Attributes:
        target: The test accuracy to reach. Classes that evaluate.merge merges count as one.
        resolution: In pixels, of all contenders; None for the default of params.yaml.
        flips: Whether a mirror image has the same class. That of a digit has not.
    """

    target: float
    resolution: int | None
    flips: bool


# The targets of digits and typefaces were set after the first runs, such that ours and fastai reach them.
TASKS = {
    "demo": Task(0.86, None, True),
    "digits": Task(0.80, 32, False),
    "typefaces": Task(0.45, 64, False),
}


@dataclass(frozen=True)
class Peer:
    """Another program.

    Attributes:
        script: Runs it; in contenders/.
        settings: Its epochs, its peak learning rate, and how the rate of the first layers follows from it.
        tried: The settings that were tried on val of the demo, seed 1.
    """

    script: str
    settings: tuple[int, float, float]
    tried: list[tuple[int, float, float]]


# Ours has the default recipe on all data sets, and a peer the settings of those tried that were best on val of the demo, with two
# epochs more, for its accuracy was still rising.
PEERS = {
    # `fine_tune`: one epoch more, with a frozen backbone. The head has half of the rate, the backbone that divided by the third.
    "fastai": Peer(
        "fast_ai_to_accuracy.py", (6, 2e-3, 5), [(4, 1e-3, 100), (4, 2e-3, 100), (4, 4e-3, 100), (4, 2e-3, 5)]
    ),
    # One epoch with a rising rate; the third is the share of the rate that each block of layers leaves to the one before it.
    "timm": Peer(
        "timm_to_accuracy.py", (7, 1e-3, 1.0), [(5, 5e-4, 1.0), (5, 1e-3, 1.0), (5, 2e-3, 1.0), (5, 2e-3, 0.75)]
    ),
}
WHO = ("ours", *PEERS)


@dataclass(frozen=True)
class Run:
    """Seconds since the start, test accuracy and, of ours, val accuracy after each epoch."""

    seconds: list[float]
    accuracy: list[float]
    val: list[float] = field(default_factory=list)

    def until(self, target: float) -> float:
        """Seconds until the accuracy is first reached; infinite if it never is."""
        epochs = zip(self.seconds, self.accuracy, strict=True)
        return next((seconds for seconds, accuracy in epochs if accuracy >= target), math.inf)

    def for_good(self, target: float) -> float:
        """Seconds until the accuracy is reached and stays so; infinite if the last epoch is below it."""
        below = [index for index, accuracy in enumerate(self.accuracy) if accuracy < target]
        return (*self.seconds, math.inf)[max(below, default=-1) + 1]


def main() -> None:
    """Print the tables, and write them to time_to_accuracy.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--data", nargs="*", choices=TASKS, default=list(TASKS), help="none: only print what is stored")
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO, help="the contenders to run")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--peers", type=Path, default=Path(".venv-bench/bin/python"), help="the Python that has fastai")
    parser.add_argument("--timm", type=Path, help="a copy of timm's repository")
    parser.add_argument(
        "--choose", choices=PEERS, help="only run this peer with all settings on the demo, and show val"
    )
    options = parser.parse_args()
    peers = options.peers.absolute()
    before: dict[str, tuple[Path, ...]] = {"fastai": ()}
    if options.timm:
        before["timm"] = (options.timm.absolute() / "train.py",)
    who = [name for name in options.who if name == "ours" or name in before]
    if options.choose:
        choose(options.choose, peers, before[options.choose])
        return
    stored = {name: options.results / f"time_to_accuracy_{name}.json" for name in TASKS}
    for name in options.data:
        content = json.loads(stored[name].read_text()) if stored[name].exists() else {"machines": {}}
        for contender, seed, found in compete(name, who, options.seeds, peers, before):
            content.setdefault(contender, {})[str(seed)] = asdict(found)
            content["machines"][contender] = machine(peers)
            files.write_json(stored[name], content)
    texts = [as_text(name, json.loads(path.read_text())) for name, path in stored.items() if path.exists()]
    common.publish("".join(texts) + NOTES, options.results / "time_to_accuracy.md")


def machine(peers: Path) -> str:
    """The machine and the versions of the libraries."""
    return common.here("torch", "timm") + (f", fastai {common.version_in(peers, 'fastai')}" if peers.exists() else "")


def compete(
    name: str, contenders: Sequence[str], seeds: Sequence[int], peers: Path, before: Mapping[str, tuple[Path, ...]]
) -> Iterator[tuple[str, int, Run]]:
    """Run the contenders on the data set `name`, in turns. Yields the contender, the seed and the run.

    `before` has what stands before the other arguments of a peer's script.
    """
    task = TASKS[name]
    with tempfile.TemporaryDirectory() as temporary:
        project = prepare(Path(temporary), name, task)
        for seed, who in product(seeds, contenders):
            if who == "ours":
                common.change_params(project, {"run": {"seed": seed}})
                found = as_run(common.run_contender("ours_to_accuracy.py", cwd=project))
            else:
                settings = (*before[who], seed, *PEERS[who].settings)
                found = run_peer(who, project, peers, settings, task.flips)
            print(f"{name}, {who}, seed {seed}: {found.accuracy[-1]:.3f} in {found.seconds[-1]:.0f} s", flush=True)
            yield who, seed, found


def choose(who: str, peers: Path, before: tuple[Path, ...]) -> None:
    """Print the accuracy of a peer on val of the demo after each epoch, for each of the settings that are tried."""
    with tempfile.TemporaryDirectory() as temporary:
        project = prepare(Path(temporary), "demo", TASKS["demo"])
        for settings in PEERS[who].tried:
            found = run_peer(who, project, peers, (*before, 1, *settings), True, "val")
            epochs = zip(found.seconds, found.accuracy, strict=True)
            curve = ", ".join(f"{seconds:.0f} s {accuracy:.1%}" for seconds, accuracy in epochs)
            print("{} epochs, rate {:g}, {:g}: {}".format(*settings, curve), flush=True)


def prepare(project: Path, name: str, task: Task) -> Path:
    """Make a project with the images of `name`, split."""
    common.make_project(project, {"images": {"resolution": task.resolution}} if task.resolution else None)
    flips = {"flip_horizontal": task.flips, "flip_vertical": task.flips}
    augment = common.read_params(project)["train_finetune"]["augment"] | flips
    common.change_params(project, {"train_finetune": {"augment": augment}})
    datasets.lay_out(name, project / "data/raw")
    common.run_stage("split", project)
    return project


def run_peer(
    who: str, project: Path, peers: Path, settings: tuple[object, ...], flips: bool, side: str = "test"
) -> Run:
    """One run of a peer with these settings. `side` of the split is looked at after each epoch."""
    resolution = common.read_params(project)["images"]["resolution"]
    arguments = (*settings, resolution, int(flips), side)
    return as_run(common.run_contender(PEERS[who].script, *arguments, cwd=project, python=peers))


def as_run(printed: str) -> Run:
    """The run of a contender that printed this: a line of JSON per epoch, among others."""
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    if not rows:
        sys.exit(f"the contender printed no epoch:\n{printed}")
    return Run(*([row[key] for row in rows if key in row] for key in ("seconds", "accuracy", "val")))


def as_text(name: str, content: Mapping[str, Any]) -> str:
    """Markdown: seconds until the target, what was reached when, and seconds until other accuracies."""
    runs = {who: [Run(**run) for run in content[who].values()] for who in WHO if who in content}
    target = TASKS[name].target
    machines = "; ".join(sorted(set(content["machines"].values())))
    header = [
        "who",
        "n",
        "seconds until then: median (range)",
        "until it stays",
        "seconds in all",
        "accuracy in the end",
    ]
    text = f"**{name}**, test accuracy of {target:.0%}; {machines}:\n\n"
    text += common.table(
        [*header, "val, all classes, no flips"], ([who, *summary(of_who, target)] for who, of_who in runs.items())
    )
    peers = [who for who in runs if who != "ours"]
    if "ours" in runs and peers:
        cells = [cell for who in peers for cell in (who, "ratio")]
        header = ["accuracy", "ours", *cells, "ours, until it stays", *cells]
        text += "\n" + common.table(header, against_peers(runs["ours"], [runs[who] for who in peers]), text=())
    for who, of_who in runs.items():
        seconds = (median(times) for times in zip(*(run.seconds for run in of_who), strict=True))
        accuracies = (mean(points) for points in zip(*(run.accuracy for run in of_who), strict=True))
        curve = (f"{s:.0f} s {a:.1%}" for s, a in zip(seconds, accuracies, strict=True))
        text += f"\n{who}, mean accuracy after each epoch: {', '.join(curve)}\n"
    return text + "\n"


def summary(runs: Sequence[Run], target: float) -> list[str]:
    """The cells of one contender's row. An infinite number of seconds means never."""
    last, val = [run.accuracy[-1] for run in runs], [run.val[-1] for run in runs if run.val]
    half = f" ± {stats.sem(last) * stats.t.ppf(0.975, len(last) - 1):.1%}" if len(last) > 1 else ""
    return [
        str(len(runs)),
        common.spread((run.until(target) for run in runs), ".0f"),
        f"{median(run.for_good(target) for run in runs):.0f}",
        f"{median(run.seconds[-1] for run in runs):.0f}",
        f"{mean(last):.1%}{half}",
        f"{mean(val):.1%}" if val else "",
    ]


def against_peers(ours: Sequence[Run], peers: Sequence[Sequence[Run]]) -> Iterator[list[str]]:
    """A row per accuracy: the median seconds until then. The highest is one that some peer reaches in most runs."""
    highest = max(median(max(run.accuracy) for run in runs) for runs in peers)
    for target in (percent / 100 for percent in range(1, 100)):
        if highest - 0.06 < target <= highest:
            cells = []
            for until in (Run.until, Run.for_good):
                mine, *others = (median(until(run, target) for run in runs) for runs in (ours, *peers))
                cells.append(f"{mine:.0f} s")
                for other in others:
                    reached = math.isfinite(other)
                    cells += [f"{other:.0f} s" if reached else "never", f"{mine / other:.2f}" if reached else "0"]
            yield [f"{target:.0%}", *cells]


if __name__ == "__main__":
    main()
