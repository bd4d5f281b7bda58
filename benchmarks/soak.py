"""Kill every stage, and `dvc repro` itself, at random moments, and see whether a byte differs in the end.

    python benchmarks/soak.py [--kills 50] [--seed 0] [STAGE ...]

A slice of the demo, small params, one thread. Each stage is started anew until it has been killed so many times (SIGKILL,
SIGTERM or SIGINT, at a moment drawn evenly from the time that it takes); `dvc repro`, which takes all of their time, a fifth as
often, and alone: the stage that it was running is left to the kernel. After each kill, every out that is there must be whole;
whenever a run comes to its end, every out must be the undisturbed run's.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from darkroom import runner
from darkroom.data import demo
from darkroom.system import environment, files

ROOT = Path(__file__).resolve().parent.parent
EACH = 40  # images a class
SMALL = {
    "run": {"threads": 1},
    "images": {"resolution": 32},
    "train_scratch": {"epochs": 6, "batch_size": 16, "width": 4, "blocks": 3, "average": 0.9},
    "train_finetune": {"epochs": 3, "batch_size": 16},
    "evaluate": {"resamples": 100},
    "tsne": {"perplexity": 5},
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WHOLE = "dvc repro"


@dataclass
class Count:
    """What became of one target. An epoch is redone when it is finished twice in one run; the one that a kill hits is not."""

    kills: int = 0
    runs: int = 0
    epochs: int = 0
    redone: int = 0
    differences: int = 0


def main() -> None:
    """Print the table, and write it to benchmarks/results/soak.md when everything was soaked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("targets", nargs="*", metavar="STAGE", help=f"a stage or '{WHOLE}'; all when none is named")
    options = parser.parse_args()
    targets = options.targets or [WHOLE, *runner.STAGES]
    with tempfile.TemporaryDirectory(prefix="soak ") as temporary:
        reference = make_project(Path(temporary) / "reference")
        call("dvc", "repro", "--quiet", *([] if WHOLE in targets else targets), cwd=reference)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # a target each; a stage takes one core
            counts = dict(zip(targets, pool.map(lambda target: soak(target, reference, options), targets), strict=True))
    text = table(counts, options.kills)
    print(text)
    if not options.targets:
        files.write_bytes(ROOT / "benchmarks/results/soak.md", text.encode())
    sys.exit(any(count.differences for count in counts.values()))


def make_project(root: Path) -> Path:
    """The project with small params and a slice of the demo, as a Git + DVC repository."""
    for name in ("dvc.yaml", "params.yaml", "data/groups.csv", ".gitignore", ".dvc/config"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    for name in ("src/darkroom", "requirements", "weights", ".dvc/plots"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, keys in SMALL.items():
        params[section].update(keys)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    demo.lay_out(root / "data/raw")
    for kind in (root / "data/raw").iterdir():
        for path in sorted(kind.iterdir())[EACH:]:
            path.unlink()
    call("git", "init", "--quiet", cwd=root)
    call("dvc", "add", "--quiet", "data/raw", cwd=root)
    return root


def soak(target: str, reference: Path, options: argparse.Namespace) -> Count:
    """Kill `target` so many times, in a copy of `reference`."""
    draw = random.Random(f"{options.seed} {target}")
    project = reference.with_name(target)
    shutil.copytree(reference, project, symlinks=True)
    names = list(runner.STAGES) if target == WHOLE else [target]
    outs = [out for name in names for out in outs_of(name)]
    right = contents(reference, outs)
    clear(project, outs, target)
    started = time.monotonic()
    attempt(target, project, None, 0)
    takes = time.monotonic() - started

    count, finished = Count(), set[str]()
    clear(project, outs, target)
    kills = max(1, options.kills // 5) if target == WHOLE else options.kills
    while count.kills < kills:
        code, printed = attempt(target, project, draw.choice(SIGNALS), draw.uniform(0, takes))
        epochs = re.findall(r"^epoch +\d+/\d+ ", printed, re.M)
        count.epochs += len(epochs)
        count.redone += sum(epoch in finished for epoch in epochs)
        finished |= set(epochs)
        found = contents(project, outs)
        if code == 0:
            count.runs += 1
            count.differences += found != right
            clear(project, outs, target)
            finished = set()
        else:
            count.kills += 1
            count.differences += any(right[path] != digest for path, digest in found.items())
            if target != WHOLE:
                remove(project, outs)  # as DVC does before it starts a stage
    code, _ = attempt(target, project, None, 0)
    count.runs += 1
    count.differences += code != 0 or contents(project, outs) != right
    print(f"{target}: {count}", flush=True)
    return count


def attempt(target: str, project: Path, how: signal.Signals | None, after: float) -> tuple[int, str]:
    """Start `target`, kill it after so many seconds if it still runs, and return its exit code and what it printed."""
    command = [sys.executable, "-m", "dvc", "repro"] if target == WHOLE else [sys.executable, "src/darkroom", target]
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, cwd=project, env=surroundings(), stdout=printed, stderr=subprocess.STDOUT)
        try:
            process.wait(after if how else None)
        except subprocess.TimeoutExpired:
            process.send_signal(how or signal.SIGKILL)
            process.wait()
        if target == WHOLE:
            time.sleep(0.5)  # for the kernel to end the stage, as a person takes longer to start again
        printed.seek(0)
        return process.returncode, printed.read()


def outs_of(name: str) -> list[str]:
    """What dvc.yaml says that the stage `name` writes."""
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]
    entries = [*declared.get("outs", []), *declared.get("metrics", []), *declared.get("plots", [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def contents(project: Path, outs: list[str]) -> Mapping[str, str]:
    """Each out that is there -> a digest of it; of a folder, of all its files."""
    found = {}
    for out in outs:
        if (path := project / out).exists():
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            own = [f"{one.relative_to(project)} {files.sha256(one.read_bytes())}" for one in inside if one.is_file()]
            found[out] = files.sha256("\n".join(own).encode())
    return found


def remove(project: Path, outs: list[str]) -> None:
    """Delete outs."""
    for out in outs:
        path = project / out
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def clear(project: Path, outs: list[str], target: str) -> None:
    """Begin again: no outs, no state, nothing that DVC remembers."""
    remove(project, outs)
    shutil.rmtree(project / ".darkroom", ignore_errors=True)
    (project / "dvc.lock").unlink(missing_ok=True)  # a training that DVC knows the result of would be begun anew
    if target == WHOLE:
        shutil.rmtree(project / ".dvc/cache/runs", ignore_errors=True)


def table(counts: Mapping[str, Count], kills: int) -> str:
    """Markdown."""

    def rows() -> Iterator[str]:
        yield "| killed | kills | runs to the end | epochs finished | epochs redone | differences |"
        yield "|---|---:|---:|---:|---:|---:|"
        for target, count in counts.items():
            yield f"| {target} | {count.kills} | {count.runs} | {count.epochs} | {count.redone} | {count.differences} |"
        yield f"\n`python benchmarks/soak.py --kills {kills}`; {environment.cpu()}, {os.cpu_count()} cores."

    return "\n".join(rows()) + "\n"


def surroundings() -> dict[str, str]:
    """`python` is this one, and what it prints is not held back."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def call(program: str, *arguments: str, cwd: Path) -> None:
    """Run a program that must do well."""
    command = [sys.executable, "-m", "dvc"] if program == "dvc" else [program]
    subprocess.run([*command, *arguments], cwd=cwd, env=surroundings(), check=True)


if __name__ == "__main__":
    main()
