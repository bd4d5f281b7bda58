"""Candidate recipes, judged by cross-validation on the images of train and val of the demo and of two other data sets.

    python benchmarks/recipes.py [--device cpu] [--jobs 2] [--folds 0 1 2 3 4] [--sets demo] [--only MODEL ...]
        [--candidates NAME ...] [--seconds 0]

A candidate differs from the params of this project in one thing. A fold trains on four fifths of the images and judges the last
epoch on the rest, of which nothing was chosen. The demo's test side is never read. Each finished fold is a line of recipes.jsonl,
and folds that are there are not run again; recipes.md has the table. `--seconds` stops after that time.
"""

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import IO, Any

import numpy as np

import common
import datasets
from darkroom.evaluation import means

SETS = ("demo", "digits", "typefaces")
FOLDS = 5
SHARE = 1 / (FOLDS - 1)  # images judged over images learned from, in a fold
NOTES = f"""
Of {FOLDS} folds of the images of train and val; the demo's classes are merged to its two states. 95 % intervals by Nadeau and
Bengio (2003). Loss of the last epoch, not calibrated. Seconds: two folds at a time, with a thread and native kernels each; the
first rows of the small CNN, "as it is" and "1 shard": one fold at a time, with two threads and portable kernels.
`python benchmarks/recipes.py`
"""
# Candidate -> (what differs from params.yaml, what differs beside it). At most five a model, named before any was judged.
CANDIDATES: dict[str, dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "finetune": {
        "as it is": ({}, {}),
        # 262 val images could not tell whether the statistics of the data are worth the noise of small batches.
        "BatchNorm of the batch": ({}, {"fixed_statistics": False}),
        # The first layers fit photographs already, and typefaces and cells need other last ones.
        "layer-wise learning rates, 0.8": ({}, {"decay": 0.8}),
        # The annotators were in doubt; mixed labels and smoothed ones say so, and seven epochs overfit a little.
        "mixup, 0.2": ({}, {"mixup": 0.2}),
        # Ten epochs in the time of seven: small images cost half as much, and the first epochs need no thin cracks.
        "6 of 10 epochs small": ({"epochs": 10}, {"small_epochs": 6}),
        # A crack is small, and a classifier that needs one spot of it misses the others.
        "random erasing, 0.25": ({"augment": {"erase": 0.25}}, {}),
    },
    "scratch": {
        "as it is": ({}, {}),
        # No candidate: what BatchNorm by shard costs. The params of this project have four shards.
        "1 shard": ({}, {"shards": 1}),
        # val still rises at the end: 30 epochs in the time of 20. On the demo only: the last block has nothing left of 48 px.
        "20 of 30 epochs small": ({"epochs": 30}, {"small_epochs": 20}),
        # As for finetune; a network without prior knowledge gains most from more various images.
        "mixup, 0.2": ({}, {"mixup": 0.2}),
        "random erasing, 0.25": ({"augment": {"erase": 0.25}}, {}),
        # It adapts the step to each layer, and 20 epochs are few.
        "AdamW, 0.002": ({"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.05}, {}),
        # It helped the fine-tuned model, for the same doubtful labels.
        "label smoothing, 0.1": ({"label_smoothing": 0.1}, {}),
    },
}
IMPOSSIBLE = {("digits", "20 of 30 epochs small"), ("typefaces", "20 of 30 epochs small")}


def main() -> None:
    """Run what is missing, and write the table."""
    parser = common.parser(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, with a thread each")
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)), help="numbers; the first is 0")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), help="models")
    parser.add_argument("--candidates", nargs="*", help="names; default: all")
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--images", type=Path, help="the demo's images, if its package is not here")
    options = parser.parse_args()
    log = options.results / "recipes.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(row["set"], row["model"], row["candidate"], row["fold"]) for row in done}
    names = [
        (one, model, name)
        for one, model in product(options.sets, options.only)
        for name in CANDIDATES[model]
        if (not options.candidates or name in options.candidates) and (one, name) not in IMPOSSIBLE
    ]
    jobs = [
        [*name, fold, *CANDIDATES[name[1]][name[2]]]
        for fold, name in product(options.folds, names)
        if (*name, fold) not in known
    ]
    with tempfile.TemporaryDirectory() as temporary, log.open("a") as stream:
        folder = Path(temporary)
        for name in options.sets:
            if name == "demo" and options.images:
                (folder / name).symlink_to(options.images.resolve())
            else:
                datasets.lay_out(name, folder / name)
        for row in results(folder, jobs, options):
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            print({key: value for key, value in row.items() if key != "right"}, flush=True)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    common.publish(as_table(rows), options.results / "recipes.md")


def results(folder: Path, jobs: list[list[Any]], options: Any) -> Iterator[dict[str, Any]]:
    """The result of each job, as they end. Each process takes every n-th job."""
    lists = [jobs[at :: options.jobs] for at in range(options.jobs)]
    words = ("recipe.py", folder, options.device, FOLDS, options.seconds)
    processes = [
        subprocess.Popen(
            common.contender_command(*words, json.dumps(mine)),
            cwd=common.ROOT,
            env=common.contender_variables(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine in lists
        if mine
    ]
    lines: queue.Queue[str] = queue.Queue()
    readers = [threading.Thread(target=forward, args=(one.stdout, lines)) for one in processes]
    for reader in readers:
        reader.start()
    while any(reader.is_alive() for reader in readers) or not lines.empty():
        with contextlib.suppress(queue.Empty):
            if (line := lines.get(timeout=1)).startswith("{"):
                yield json.loads(line)


def forward(stream: IO[str], lines: "queue.Queue[str]") -> None:
    """Put each line of a stream into a queue."""
    for line in stream:
        lines.put(line)


def as_table(rows: list[dict[str, Any]]) -> str:
    """A line per set, model and candidate. A change is that on the folds that both have, two at least."""
    by_name: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_name[row["set"], row["model"], row["candidate"]][row["fold"]] = row
    lines = []
    for (name, model, candidate), found in by_name.items():
        base = by_name.get((name, model, "as it is"), {})
        both = sorted(found.keys() & base.keys())
        changes = np.array([found[fold]["accuracy"] - base[fold]["accuracy"] for fold in both])
        cells = [percent(np.array([one["accuracy"] for one in found.values()]), "")]
        cells.append(percent(changes, "+") if candidate != "as it is" else "")
        for key, form in (("one view", ".3f"), ("loss", ".3f"), ("seconds", ".0f")):
            cells.append(f"{np.mean([one[key] for one in found.values()]):{form}}")
        lines.append([name, model, candidate, str(len(found)), *cells])
    header = ["set", "model", "recipe", "folds", "accuracy (%)", "change", "without flips", "loss", "seconds a fold"]
    text = common.table(header, sorted(lines), text=(0, 1, 2))
    return text + NOTES


def percent(of_folds: np.ndarray, sign: str) -> str:
    """The mean over folds in percent, with its 95 % interval from three folds on: that of two is as wide as the scale."""
    if not len(of_folds):
        return ""
    mean = means.over_folds(of_folds, SHARE)
    half = f" ± {100 * (mean.high - mean.value):.1f}" if len(of_folds) > 2 else ""
    return f"{100 * mean.value:{sign}.1f}{half}"


if __name__ == "__main__":
    main()
