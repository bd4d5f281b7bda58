"""Time, memory and files of evaluate and compare for many classes and test images, with simulated answers: no network runs.

    python benchmarks/many_classes.py [10x100000 100x10000 1000x10000 1000x100000]

Two models, on two commits. Each step is a process of its own, whose time and memory the kernel counts. Of evaluate it is all that
follows the forward pass. Three quarters of the images of the manifest are on other sides.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import common
from common import Cost
from darkroom.data.images import Folder
from darkroom.evaluation import conformal, said
from darkroom.networks.calibration import calibrated
from darkroom.stages import evaluate
from darkroom.system import files, git, params

MODELS = {"scratch": 8.0, "finetune": 9.0}  # how far the logit of the right class is raised
RAISED = 0.5  # how much more in head
SHOWN = ("plots/predictions.csv", "plots/roc.csv", "data/manifest.csv")


def main() -> None:
    """Print the table, and write it to many_classes.md."""
    parser = common.parser(__doc__)
    parser.add_argument("sizes", nargs="*", metavar="CLASSESxIMAGES", help="how many classes and test images")
    parser.add_argument("--write", type=float, help="write results to the current folder; models are better by this")
    options = parser.parse_args()
    sizes = options.sizes or ["10x100000", "100x10000", "1000x10000", "1000x100000"]
    pairs = [tuple(map(int, size.split("x"))) for size in sizes]
    if options.write is not None:
        classes, images = pairs[0]
        write(classes, images, options.write)
        return
    header = ["classes", "test images", "evaluate (s)", "peak (MiB)", "compare (s)", "peak (MiB)"]
    header += [f"{Path(path).name} (MB)" for path in SHOWN] + ["all files in Git (MB)"]
    text = common.table(header, [row(*pair) for pair in pairs], text=())
    text += (
        f"\n{len(MODELS)} models, n = 1. {common.here()}.\n\n`python benchmarks/many_classes.py {' '.join(sizes)}`\n"
    )
    common.publish(text, options.results / "many_classes.md")


def row(classes: int, images: int) -> list[str]:
    """What evaluate and compare take, and what they write."""
    with tempfile.TemporaryDirectory() as temporary:
        project = common.make_project(Path(temporary))
        (project / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n", encoding="utf-8")
        git.read("init", "--quiet", "--initial-branch", "main", cwd=project)
        git.read("config", "user.name", "Benchmarks", cwd=project)
        git.read("config", "user.email", "benchmarks@example.org", cwd=project)
        evaluated = []
        for raised in (0.0, RAISED):
            again = [str(Path(__file__).resolve()), f"{classes}x{images}", "--write", str(raised)]
            evaluated.append(cost_of(common.command("python", *again), project))
            common.commit(project, f"Raised by {raised}")
        compared = cost_of(common.command("darkroom", "compare", "HEAD~1", "HEAD"), project)
        megabytes = {path: (project / path).stat().st_size / 1e6 for path in SHOWN}
        listed = git.read("ls-files", "data", "metrics", "plots", cwd=project).splitlines()
        every = sum((project / path).stat().st_size for path in listed) / 1e6
    seconds = [evaluated[1].seconds, compared.seconds]
    peaks = [evaluated[1].peak, compared.peak]
    numbers = [f"{number:,.0f}" for both in zip(seconds, peaks, strict=True) for number in both]
    return [f"{classes:,}", f"{images:,}", *numbers, *(f"{size:,.1f}" for size in (*megabytes.values(), every))]


def cost_of(command: list[str], project: Path) -> Cost:
    """Run a command in the project, and exit if it fails."""
    started = time.perf_counter()
    variables = {
        **common.variables(),
        "PYTHONPATH": os.pathsep.join([str(common.ROOT / "src"), str(common.ROOT / "benchmarks")]),
    }
    process = subprocess.Popen(command, cwd=project, env=variables, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def write(classes: int, images: int, raised: float) -> None:
    """What the stages evaluate and split write, for simulated answers."""
    names = [f"class {k:04d}" for k in range(classes)]
    labels = np.sort(np.arange(images) % classes)
    paths = [f"{names[label]}/{index:07d}.png" for index, label in enumerate(labels)]
    test = Folder(np.empty(0, np.uint8), labels, paths, names)
    choices, run = params.load("evaluate", evaluate.Params), params.load("run", params.Run)
    units = np.arange(images)
    judged = {}
    for number, (name, strength) in enumerate(MODELS.items()):
        answers = simulated(labels, classes, strength + raised, number)
        known: dict[str, Any] = {"title": name, "made_from": None, "temperature": 1.0}
        judged[name] = evaluate.judge_model(test, answers, units, choices, run.seed, known)
        del answers
    evaluate.write(test, judged, units, choices, run)
    split(paths)


def simulated(labels: np.ndarray, classes: int, strength: float, seed: int) -> evaluate.Answers:
    """The answers of a model, as `evaluate.answers_of` puts them together, from random logits."""
    random = np.random.default_rng(seed)
    probabilities, raw = np.empty((len(labels), classes)), []
    for start in range(0, len(labels), evaluate.PIECE):
        own = labels[start : start + evaluate.PIECE]
        logits = 1.5 * random.standard_normal((1, len(own), classes), np.float32)
        logits[0, np.arange(len(own)), own] += strength * random.random(len(own), np.float32)
        probabilities[start : start + evaluate.PIECE] = calibrated(torch.from_numpy(logits), 1.0).numpy().round(6)
        plain = said.from_probabilities(calibrated(torch.from_numpy(logits), 1.3).numpy().round(6), own)
        raw.append(said.Said(plain.predicted, plain.confidence, plain.of_label))
    limits = conformal.Limits(np.full(classes, 0.9), 1.0)
    of_model = said.from_probabilities(probabilities, labels)
    return evaluate.with_sets(of_model, said.joined(raw), limits, labels, random.random(len(labels)) < 0.01)


def split(paths: list[str]) -> None:
    """A manifest of the test images and of three times as many others, and no look-alikes."""
    rows = []
    for number, side in enumerate(("test", "train", "train", "val")):
        for path in paths:
            of_side = f"{path[:-4]}{number}.png" if number else path
            label = path.split("/")[0]
            rows.append((of_side, label, side, "", files.sha256(of_side.encode()), "", ""))
    files.write_csv(
        "data/manifest.csv", ("path", "label", "split", "group", "sha256", "reason", "filler"), sorted(rows)
    )
    files.write_csv("plots/near_duplicates.csv", ("sides", "first", "second", "distance"), [])


if __name__ == "__main__":
    main()
