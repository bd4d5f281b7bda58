"""Seconds from a cold start to a given test accuracy: the stage train_finetune as committed, against fastai's `fine_tune`.

    python benchmarks/time_to_accuracy.py [--data demo digits typefaces] [--who ours fastai] [--seeds 1 2 3 4 5]
    python benchmarks/time_to_accuracy.py --choose --peers .venv-bench/bin/python   # fastai's epochs and rate, by val

Both have the same backbone, weights, split, resolution, flips and batch size, and a process a run; runs of one call take turns,
and what is stored of other seeds stays. The test side is looked at after each epoch, outside the clock, averaged over the mirror
images for both. A run that never reaches the accuracy counts as longer than it took.
"""

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import yaml
from growth import ROOT, measure
from scipy import stats
from throughput import fastai_version

from darkroom.system import environment, files

NOTES = """
n seeds each; means with the 95 % interval over seeds (Student's t), which does not hold the chance of the test images: on the
demo about 2 points more. The accuracy in the end is the last epoch's, while the stage keeps the one that val chose. The targets
of digits and typefaces were set after the first runs. Runs that took turns: seeds 4 and 5 of the demo, 3 of digits, 2 and 3 of
typefaces; the others are of the same day and machine.
`python benchmarks/time_to_accuracy.py --data NAME --who WHO ... --seeds K ...`
"""

WHO = ("ours", "fastai")
CONTENDERS, RESULTS = ROOT / "benchmarks/contenders", ROOT / "benchmarks/results"


@dataclass(frozen=True)
class Task:
    """A data set, the accuracy to reach on it, and what fastai is called with.

    Attributes:
        target: The test accuracy, classes merged where evaluate.merge does.
        resolution: Of both contenders; None for the default of params.yaml.
        flips: Whether a mirror image is the same thing: for a digit it is not.
        epochs, lr, spread: fastai's, after its frozen epoch: the head learns at a peak rate of half of `lr`, the backbone at
            that over `spread`.
    """

    target: float
    resolution: int | None
    flips: bool
    epochs: int
    lr: float
    spread: float


# Ours has the default recipe throughout. fastai's rate and spread are the best on val of the demo among CHOICES; it has two
# epochs more than there, for it was still getting better. The targets of digits and typefaces were set after the first runs,
# such that both get there; the tables show other ones too.
CHOICES = [(4, 1e-3, 100), (4, 2e-3, 100), (4, 4e-3, 100), (4, 2e-3, 5)]
TASKS = {
    "demo": Task(0.86, None, True, 6, 2e-3, 5),
    "digits": Task(0.80, 32, False, 6, 2e-3, 5),
    "typefaces": Task(0.45, 64, False, 6, 2e-3, 5),
}


@dataclass(frozen=True)
class Run:
    """Seconds, test accuracy and, of ours, val accuracy after each epoch."""

    seconds: list[float]
    accuracy: list[float]
    val: list[float] = field(default_factory=list)

    def until(self, target: float) -> float:
        """Seconds until the accuracy is reached; infinite where it never is."""
        return next((s for s, own in zip(self.seconds, self.accuracy, strict=True) if own >= target), math.inf)

    def for_good(self, target: float) -> float:
        """Seconds until it is reached and not lost again; infinite where it is lost in the end."""
        below = [index for index, own in enumerate(self.accuracy) if own < target]
        return (*self.seconds, math.inf)[max(below, default=-1) + 1]


def main() -> None:
    """Print the tables, and write them to benchmarks/results/time_to_accuracy.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", nargs="*", choices=TASKS, default=list(TASKS), help="none: only print")
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO, help="measure these anew, in turns")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--peers", type=Path, default=Path(".venv-bench/bin/python"), help="of fastai's environment")
    parser.add_argument("--choose", action="store_true", help="only run fastai's CHOICES on the demo, and look at val")
    options = parser.parse_args()
    if options.choose:
        choose(options.peers.absolute())
        return
    stored = {name: RESULTS / f"time_to_accuracy_{name}.json" for name in TASKS}
    for name in options.data:
        content = json.loads(stored[name].read_text()) if stored[name].exists() else {"machines": {}}
        for who, seed, own in compete(name, options.who, options.seeds, options.peers.absolute()):
            content.setdefault(who, {})[str(seed)] = asdict(own)
            content["machines"][who] = machine(options.peers)
            files.write_json(stored[name], content)
    tables = [table(name, json.loads(path.read_text())) for name, path in stored.items() if path.exists()]
    text = "".join(f"{line}\n" for lines in tables for line in lines) + NOTES
    print(text)
    files.write_bytes(RESULTS / "time_to_accuracy.md", text.encode())


def machine(peers: Path) -> str:
    """What it is measured on."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm"))
    versions += f", fastai {fastai_version(peers)}" if peers.exists() else ""
    return f"{environment.cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def compete(name: str, contenders: list[str], seeds: list[int], peers: Path) -> Iterator[tuple[str, int, Run]]:
    """The runs of the contenders on the data set `name`, in turns: who, the seed, and how it went."""
    task = TASKS[name]
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary)
        resolution = prepare(project, name, task)
        for seed in seeds:
            for who in contenders:
                command = (
                    [sys.executable, CONTENDERS / "ours_to_accuracy.py", str(seed)]
                    if who == "ours"
                    else [str(peers), CONTENDERS / "fast_ai_to_accuracy.py"]
                    + [str(value) for value in (seed, task.epochs, task.lr, task.spread, resolution, int(task.flips))]
                )
                own = run([str(word) for word in command], project)
                print(f"{name}, {who}, seed {seed}: {own.accuracy[-1]:.3f} in {own.seconds[-1]:.0f} s", flush=True)
                yield who, seed, own


def choose(peers: Path) -> None:
    """Print how fastai does on val of the demo after each epoch of each of CHOICES."""
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary)
        resolution = prepare(project, "demo", TASKS["demo"])
        for epochs, lr, spread in CHOICES:
            words = [peers, CONTENDERS / "fast_ai_to_accuracy.py", 1, epochs, lr, spread, resolution, 1, "val"]
            own = run([str(word) for word in words], project)
            curve = (f"{s:.0f} s {a:.1%}" for s, a in zip(own.seconds, own.accuracy, strict=True))
            print(f"{epochs} epochs, rate {lr:g}, spread {spread:g}: {', '.join(curve)}", flush=True)


def prepare(project: Path, name: str, task: Task) -> int:
    """Lay the images out, split them, and say at which resolution to train."""
    datasets.lay_out(name, project / "data/raw")
    for folder in ("requirements", "weights"):
        shutil.copytree(ROOT / folder, project / folder)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    if task.resolution:
        tree["images"]["resolution"] = task.resolution
    for training in ("train_scratch", "train_finetune"):
        tree[training]["augment"] |= {"flip_horizontal": task.flips, "flip_vertical": task.flips}
    (project / "params.yaml").write_text(yaml.safe_dump(tree))
    for stage in ("split", "stats"):
        measure(stage, project)
    resolution: int = tree["images"]["resolution"]
    return resolution


def run(command: list[str], project: Path) -> Run:
    """One run; a contender's rows are the lines of its output that begin with a brace."""
    own = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [command[0], "-W", "ignore", *command[1:]],
        cwd=project,
        env={**own, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr}")
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return Run(*([row[key] for row in rows if key in row] for key in ("seconds", "accuracy", "val")))


def table(name: str, content: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: how long until the target, what was reached when, and how long until other accuracies."""
    runs = {who: [Run(**one) for one in content[who].values()] for who in WHO if who in content}
    target = TASKS[name].target
    machines = "; ".join(sorted(set(content["machines"].values())))
    yield f"**{name}**, test accuracy of {target:.0%}; {machines}:\n"
    yield "| who | n | seconds until then: median (range) | until it stays | seconds in all | accuracy in the end | on val |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for who, own in runs.items():
        until = sorted(one.until(target) for one in own)  # "inf" in the table: never
        whole, last = statistics.median(one.seconds[-1] for one in own), [one.accuracy[-1] for one in own]
        val = [one.val[-1] for one in own if one.val]
        half = f" ± {stats.sem(last) * stats.t.ppf(0.975, len(last) - 1):.1%}" if len(last) > 1 else ""
        yield (
            f"| {who} | {len(own)} | {statistics.median(until):.0f} ({until[0]:.0f}-{until[-1]:.0f}) | "
            f"{statistics.median(one.for_good(target) for one in own):.0f} | {whole:.0f} | "
            f"{statistics.mean(last):.1%}{half} | {f'{statistics.mean(val):.1%}' if val else ''} |"
        )
    if set(runs) == set(WHO):
        yield from against_fastai(runs["ours"], runs["fastai"])
    for who, own in runs.items():
        points = zip(*(one.accuracy for one in own), strict=True)
        times = zip(*(one.seconds for one in own), strict=True)
        curve = (f"{statistics.median(t):.0f} s {statistics.mean(a):.1%}" for t, a in zip(times, points, strict=True))
        yield f"\n{who}, mean accuracy after each epoch: {', '.join(curve)}"
    yield ""


def against_fastai(ours: list[Run], theirs: list[Run]) -> Iterator[str]:
    """Markdown: median seconds of both until each of several accuracies that fastai, too, reaches in most runs."""
    yield "\n| accuracy | ours | fastai | ratio | ours, until it stays | fastai | ratio |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    highest = statistics.median(max(one.accuracy) for one in theirs)
    for target in (percent / 100 for percent in range(1, 100)):
        if highest - 0.06 < target <= highest:
            cells = []
            for until in (Run.until, Run.for_good):
                mine, other = (statistics.median(until(one, target) for one in own) for own in (ours, theirs))
                ratio = f"{mine / other:.2f}" if math.isfinite(other) else "0"
                cells += [f"{mine:.0f} s", f"{other:.0f} s" if math.isfinite(other) else "never", ratio]
            yield f"| {target:.0%} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
