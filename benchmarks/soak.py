"""Kill every stage, and `dvc repro` itself, at random moments, and see whether a byte differs in the end.

    python benchmarks/soak.py [--kills 50] [--seed 0] [STAGE ...]

The project has a slice of the demo and small params; its stages use one thread. Each stage is started again and again until it
has been killed so many times, a training each time with 1, 2 or 4 workers. The signal is SIGKILL, SIGTERM or SIGINT; the moment
is uniform over the time that the stage takes. `dvc repro` takes as long as all stages together and is killed a fifth as often. It
alone gets the signal: the kernel must end the stage that it was running. After each kill, every out that exists must be complete.
Whenever a run ends by itself, every out must have the bytes of a run that was never killed.
"""

import argparse
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import common
from darkroom.data import demo
from darkroom.system import files, machine
from darkroom.system.parallel import cores

PER_CLASS = 40  # images
SMALL = {
    "run": {"threads": 1, "shards": 4},
    "images": {"resolution": 32},
    "evaluate": {"resamples": 100},
    "tsne": {"perplexity": 5},
}
# Of each training, the keys that it has; then what is special to one.
SMALL_TRAINING = {"epochs": 3, "batch_size": 16, "width": 4, "blocks": 3}
SPECIAL = {"train_scratch": {"epochs": 6, "ema": 0.9}}  # one training with a running average, one without
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WORKERS = (1, 1, 2, 4)  # of a training; each run has one of these numbers, and a run goes on with another one
WHOLE = "dvc repro"


@dataclass
class Count:
    """What happened to one target.

    Attributes:
        kills: Attempts that a signal ended.
        runs: Times that the target came to its end.
        epochs: Epochs that were finished, in all attempts.
        redone: Those of them that an earlier attempt had finished already, since the target last came to its end.
        differences: Attempts after which an out was not what it should be.
    """

    kills: int = 0
    runs: int = 0
    epochs: int = 0
    redone: int = 0
    differences: int = 0


def main() -> None:
    """Print the table, and write it to soak.md if nothing was left out."""
    parser = common.parser(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("targets", nargs="*", metavar="STAGE", help=f"a stage or '{WHOLE}'; all if none is named")
    options = parser.parse_args()
    targets = options.targets or [WHOLE, *common.stages()]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # shells make background jobs ignore it, and so would the stages
    with tempfile.TemporaryDirectory(prefix="soak ") as temporary:
        reference = make_reference(Path(temporary) / "reference", [] if WHOLE in targets else targets)
        with ThreadPoolExecutor(cores()) as pool:  # each target uses one core
            counts = dict(zip(targets, pool.map(lambda target: soak(target, reference, options), targets), strict=True))
    common.publish(
        table(counts) + f"\n`python benchmarks/soak.py --kills {options.kills}`; {machine.cpu()}, {cores()} cores.\n",
        None if options.targets else options.results / "soak.md",
    )
    sys.exit(any(count.differences for count in counts.values()))


def make_reference(project: Path, targets: list[str]) -> Path:
    """A small project in which `targets` (all stages if there are none) and what they depend on are built undisturbed.

    Its trainings are done by one worker.
    """
    common.make_project(project, SMALL)
    common.change_params(project, small_trainings(common.read_params(project)))
    demo.lay_out(project / "data/raw")
    for of_class in (project / "data/raw").iterdir():
        for path in sorted(of_class.iterdir())[PER_CLASS:]:
            path.unlink()
    common.make_repository(project)
    common.run_dvc("repro", "--quiet", *targets, cwd=project)
    return project


def small_trainings(tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The changes of params.yaml that make each training short."""
    return {
        section: {key: value for key, value in SMALL_TRAINING.items() if key in tree[section]}
        | SPECIAL.get(section, {})
        for section in common.trainings(tree)
    }


def soak(target: str, reference: Path, options: argparse.Namespace) -> Count:
    """Kill `target` so many times, in a copy of `reference`, and count what happens."""
    generator = random.Random(f"{options.seed} {target}")
    project = reference.with_name(target)
    shutil.copytree(reference, project, symlinks=True)
    names = list(common.stages()) if target == WHOLE else [target]
    outs = [out for name in names for out in outs_of(name)]
    expected = contents(reference, outs)
    clear(project, outs, target)
    attempt(target, project)  # what is read for the first time is slow
    duration = math.inf  # of a run from the beginning to the end, the last one: the machine may be busy at times

    count, finished, fresh = Count(), set[str](), True
    clear(project, outs, target)
    kills = max(1, options.kills // 5) if target == WHOLE else options.kills
    while count.kills < kills:
        how = generator.choice(SIGNALS) if duration < math.inf else None
        started = time.monotonic()
        after = generator.uniform(0, duration) if how else 0
        code, printed = attempt(target, project, how, after, workers=generator.choice(WORKERS))
        epochs = re.findall(r"^epoch +\d+/\d+ ", printed, re.M)
        count.epochs += len(epochs)
        count.redone += sum(epoch in finished for epoch in epochs)
        finished |= set(epochs)
        found = contents(project, outs)
        if code == 0:
            count.runs += 1
            count.differences += found != expected
            if fresh:
                duration = time.monotonic() - started
            clear(project, outs, target)
            finished, fresh = set(), True
        else:
            count.kills += 1
            fresh = False
            count.differences += any(expected[path] != digest for path, digest in found.items())
            if target != WHOLE:
                remove(project, outs)  # as DVC does before it starts a stage
    code, _ = attempt(target, project)
    count.runs += 1
    count.differences += code != 0 or contents(project, outs) != expected
    print(f"{target}: {count}", flush=True)
    return count


def attempt(
    target: str, project: Path, how: signal.Signals | None = None, after: float = 0, workers: int = 1
) -> tuple[int, str]:
    """Start `target` and, if `how` is given, send it this signal after `after` seconds. Its exit code and what it printed."""
    words = ("dvc", "repro") if target == WHOLE else ("python", "src/darkroom", target)
    variables = common.variables() | {"DARKROOM_WORKERS": str(workers)}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        process = subprocess.Popen(
            common.command(*words), cwd=project, env=variables, stdout=printed, stderr=subprocess.STDOUT
        )
        try:
            process.wait(after if how else None)
        except subprocess.TimeoutExpired:
            process.send_signal(how or signal.SIGKILL)
            process.wait()
        if target == WHOLE:
            time.sleep(0.5)  # until the kernel has ended the stage: a person would take longer to start again
        printed.seek(0)
        return process.returncode, printed.read()


def outs_of(name: str) -> list[str]:
    """The files and folders that the stage `name` writes, as dvc.yaml lists them."""
    stage = common.stages()[name]
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def contents(project: Path, outs: list[str]) -> Mapping[str, str]:
    """Each out that exists -> its SHA-256; that of a folder is about the names and contents of all its files."""
    found = {}
    for out in outs:
        if (path := project / out).exists():
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            lines = [f"{one.relative_to(project)} {files.sha256(one.read_bytes())}" for one in inside if one.is_file()]
            found[out] = files.sha256("\n".join(lines).encode())
    return found


def remove(project: Path, outs: list[str]) -> None:
    """Delete outs."""
    for out in outs:
        path = project / out
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def clear(project: Path, outs: list[str], target: str) -> None:
    """Delete the outs, the state of trainings and what DVC remembers, so that the next run starts from the beginning."""
    remove(project, outs)
    shutil.rmtree(project / ".darkroom", ignore_errors=True)
    (project / "dvc.lock").unlink(missing_ok=True)  # a training whose result DVC knows would not go on after a kill
    if target == WHOLE:
        shutil.rmtree(project / ".dvc/cache/runs", ignore_errors=True)


def table(counts: Mapping[str, Count]) -> str:
    """Markdown, a row per target."""
    header = ["killed", "kills", "runs to the end", "epochs finished", "epochs redone", "differences"]
    return common.table(header, ([target, *map(str, astuple(count))] for target, count in counts.items()))


if __name__ == "__main__":
    main()
