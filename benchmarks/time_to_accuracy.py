"""Seconds from a cold start to a given test accuracy: the stage train_finetune as committed, against fastai's `fine_tune`.

    python benchmarks/time_to_accuracy.py [--data demo digits typefaces] [--who ours fastai] [--seeds 1 2 3 4 5]
    python benchmarks/time_to_accuracy.py --choose --peers .venv-bench/bin/python   # fastai's epochs and rate, by val

Both have the same backbone, weights, split, resolution, flips and batch size. Each run is a new process; the contenders take
turns. Stored runs with other seeds are kept. After each epoch, with the clock stopped, the accuracy on test is taken; both
contenders average their predictions over the same mirror images. A run that never reaches the accuracy counts as infinitely long.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
and typefaces were set after the first runs. Runs that took turns: seeds 4 and 5 of the demo, 3 of digits, 2 and 3 of typefaces;
the others are of the same day and machine.
`python benchmarks/time_to_accuracy.py --data NAME --who WHO ... --seeds K ...`
"""

WHO = ("ours", "fastai")


@dataclass(frozen=True)
class Task:
    """A data set, the accuracy to reach on it, and the settings of fastai.

    Attributes:
        target: The test accuracy to reach. Classes that evaluate.merge merges count as one.
        resolution: In pixels, of both contenders; None for the default of params.yaml.
        flips: Whether a mirror image has the same class. That of a digit has not.
        epochs: fastai's, after one with a frozen backbone.
        lr: fastai's. The peak rate of its head is half of this.
        spread: fastai's. The peak rate of its backbone is that of its head divided by this.
    """

    target: float
    resolution: int | None
    flips: bool
    epochs: int
    lr: float
    spread: float


# Ours has the default recipe on all of them. fastai has the rate and the spread of CHOICES that were best on val of the demo. It
# has two epochs more than there, for its accuracy was still rising. The targets of digits and typefaces were set after the first
# runs, such that both contenders reach them; the tables show other targets too.
CHOICES = [(4, 1e-3, 100), (4, 2e-3, 100), (4, 4e-3, 100), (4, 2e-3, 5)]  # (epochs, lr, spread)
TASKS = {
    "demo": Task(0.86, None, True, 6, 2e-3, 5),
    "digits": Task(0.80, 32, False, 6, 2e-3, 5),
    "typefaces": Task(0.45, 64, False, 6, 2e-3, 5),
}


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
    parser.add_argument("--choose", action="store_true", help="only run fastai with CHOICES on the demo, and show val")
    options = parser.parse_args()
    peers = options.peers.absolute()
    if options.choose:
        choose(peers)
        return
    stored = {name: options.results / f"time_to_accuracy_{name}.json" for name in TASKS}
    for name in options.data:
        content = json.loads(stored[name].read_text()) if stored[name].exists() else {"machines": {}}
        for who, seed, found in compete(name, options.who, options.seeds, peers):
            content.setdefault(who, {})[str(seed)] = asdict(found)
            content["machines"][who] = machine(peers)
            files.write_json(stored[name], content)
    texts = [as_text(name, json.loads(path.read_text())) for name, path in stored.items() if path.exists()]
    common.publish("".join(texts) + NOTES, options.results / "time_to_accuracy.md")


def machine(peers: Path) -> str:
    """The machine and the versions of the libraries."""
    return common.here("torch", "timm") + (f", fastai {common.version_in(peers, 'fastai')}" if peers.exists() else "")


def compete(name: str, contenders: Sequence[str], seeds: Sequence[int], peers: Path) -> Iterator[tuple[str, int, Run]]:
    """Run the contenders on the data set `name`, in turns. Yields the contender, the seed and the run."""
    task = TASKS[name]
    with tempfile.TemporaryDirectory() as temporary:
        project = prepare(Path(temporary), name, task)
        for seed in seeds:
            for who in contenders:
                if who == "ours":
                    common.change_params(project, {"run": {"seed": seed}})
                    found = as_run(common.run_contender("ours_to_accuracy.py", cwd=project))
                else:
                    found = run_fastai(project, peers, seed, (task.epochs, task.lr, task.spread), task.flips)
                print(f"{name}, {who}, seed {seed}: {found.accuracy[-1]:.3f} in {found.seconds[-1]:.0f} s", flush=True)
                yield who, seed, found


def choose(peers: Path) -> None:
    """Print fastai's accuracy on val of the demo after each epoch, for each of CHOICES."""
    with tempfile.TemporaryDirectory() as temporary:
        project = prepare(Path(temporary), "demo", TASKS["demo"])
        for choice in CHOICES:
            found = run_fastai(project, peers, 1, choice, True, "val")
            epochs = zip(found.seconds, found.accuracy, strict=True)
            curve = ", ".join(f"{seconds:.0f} s {accuracy:.1%}" for seconds, accuracy in epochs)
            print("{} epochs, rate {:g}, spread {:g}: {}".format(*choice, curve), flush=True)


def prepare(project: Path, name: str, task: Task) -> Path:
    """Make a project with the images of `name`, split."""
    common.make_project(project, {"images": {"resolution": task.resolution}} if task.resolution else None)
    flips = {"flip_horizontal": task.flips, "flip_vertical": task.flips}
    augment = common.read_params(project)["train_finetune"]["augment"] | flips
    common.change_params(project, {"train_finetune": {"augment": augment}})
    datasets.lay_out(name, project / "data/raw")
    common.run_stage("split", project)
    return project


def run_fastai(
    project: Path, peers: Path, seed: int, choice: tuple[int, float, float], flips: bool, side: str = "test"
) -> Run:
    """One run of fastai with these epochs, rate and spread. `side` of the split is looked at after each epoch."""
    resolution = common.read_params(project)["images"]["resolution"]
    arguments = (seed, *choice, resolution, int(flips), side)
    return as_run(common.run_contender("fast_ai_to_accuracy.py", *arguments, cwd=project, python=peers))


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
    if set(runs) == set(WHO):
        header = ["accuracy", "ours", "fastai", "ratio", "ours, until it stays", "fastai", "ratio"]
        text += "\n" + common.table(header, against_fastai(runs["ours"], runs["fastai"]), text=())
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


def against_fastai(ours: Sequence[Run], theirs: Sequence[Run]) -> Iterator[list[str]]:
    """A row per accuracy: the median seconds of both until then. The highest is one that fastai reaches in most runs."""
    highest = median(max(run.accuracy) for run in theirs)
    for target in (percent / 100 for percent in range(1, 100)):
        if highest - 0.06 < target <= highest:
            cells = []
            for until in (Run.until, Run.for_good):
                mine, other = (median(until(run, target) for run in runs) for runs in (ours, theirs))
                reached = math.isfinite(other)
                ratio = f"{mine / other:.2f}" if reached else "0"
                cells += [f"{mine:.0f} s", f"{other:.0f} s" if reached else "never", ratio]
            yield [f"{target:.0%}", *cells]


if __name__ == "__main__":
    main()
