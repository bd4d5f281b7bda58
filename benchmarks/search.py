"""Does `darkroom tune` find a better scratch model than the defaults? Search, then train both with other seeds.

    python benchmarks/search.py PROJECT [--data digits] [--trials 24] [--seeds 5] [--name search]

On the demo at 96 px, for which the defaults were chosen, or on scikit-learn's digits at 32 px, for which they were not. Two
trainings run at a time, with one thread each and this CPU's fastest kernels; the two workers share the study. PROJECT is a
folder. If it does not exist, it is made; if it does, a search in it that was killed goes on. The search compares val losses with
run.seed 1. The best params found and the defaults are then trained with the seeds from 2 on, and only these are tested.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats
from sklearn.metrics import log_loss

import common
import datasets
from darkroom.data.images import load_folder
from darkroom.data.layout import SPLIT
from darkroom.evaluation import metrics
from darkroom.experiments import search_space, tune
from darkroom.networks import checkpoint, forward, registry
from darkroom.networks.calibration import calibrated
from darkroom.system import files, params

STAGE, MODEL = "train_scratch", "scratch"
CHANGES: dict[str, dict[str, dict[str, object]]] = {
    "demo": {"images": {"resolution": 96}},
    "digits": {"images": {"resolution": 32}, STAGE: {"blocks": 4}},  # five would leave nothing of 32 px
}
# For digits: what one would ask first of defaults that were chosen for solar cells. The demo is searched with tune.yaml.
SPACE = """
stage: train_scratch
params:
  train_scratch.lr: {low: 0.005, high: 0.2, log: true}
  train_scratch.batch_size: {choices: [16, 32]}
  train_scratch.ema: {choices: [0.0, 0.95, 0.98]}
  train_scratch.augment.flip_horizontal: {choices: [true, false]}
  train_scratch.augment.flip_vertical: {choices: [true, false]}
  train_scratch.augment.rotation: {low: 0, high: 15}
  train_scratch.augment.shift: {low: 0.0, high: 0.1}
"""
COPIED = ("src", "requirements", "metrics", "dvc.yaml")  # what a training needs besides data and params


def main() -> None:
    """Print the table, and write it to search_DATA.md."""
    parser = common.parser(__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--data", choices=CHANGES, default="demo")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--name", default="search", help="of the study")
    options = parser.parse_args()
    results = options.results.absolute()
    if not options.project.exists():
        prepare(options.project, options.data)
    os.chdir(options.project)
    space = search_space.read(Path("tune.yaml"))
    add_trials(options.name, options.trials - len(tune.open_study(options.name, space, None).trials))
    study = tune.open_study(options.name, space, None)
    best, states = tune.complete(study)[0], [trial.state.name for trial in study.trials]
    scores = train_and_test({"as they are": {}, "found": best.params}, range(2, 2 + options.seeds))
    text = common.table(["metric", "as they are", "found", "difference (95 %)", "p"], rows(scores))
    text += (
        f"\nFound, by {len(states)} trials of which {states.count('PRUNED')} were stopped early: {listed(best.params)}.\n"
        f"\n{options.data}; means over n = {options.seeds} seeds, differences with the 95 % interval of Welch's t test. "
        f"{common.here()}. `python benchmarks/search.py PROJECT --data {options.data} --trials {options.trials} "
        f"--seeds {options.seeds}`\n"
    )
    common.publish(text, results / f"search_{options.data}.md")


def prepare(project: Path, data: str) -> None:
    """Make a committed project with these images, their split and their statistics."""
    common.make_project(project, {"run": {"mode": "native", "threads": 1}, **CHANGES[data]})
    if data == "digits":
        (project / "tune.yaml").write_text(SPACE, encoding="utf-8")
    datasets.lay_out(data, project / "data/raw")
    common.make_repository(project)
    common.run_dvc("repro", "--quiet", "stats", cwd=project)
    common.commit(project, "Split and statistics")


def add_trials(name: str, count: int) -> None:
    """Have two workers add `count` trials to the study `name` of the current project."""
    shares = [share for share in (count - count // 2, count // 2) if share > 0]
    workers = [
        subprocess.Popen(
            common.command("darkroom", "tune", "--name", name, "--trials", str(share)), env=common.variables()
        )
        for share in shares
    ]
    ends = [worker.wait() for worker in workers]
    if any(ends):
        sys.exit("the search failed")


def train_and_test(candidates: Mapping[str, Mapping[str, Any]], seeds: range) -> dict[str, list[dict[str, float]]]:
    """The scores of each of the `candidates` with each seed, two trainings at a time."""
    runs = list(product(candidates, seeds))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda run: score(candidates[run[0]], run[1]), runs))
    return {
        name: [scores for (owner, _), scores in zip(runs, found, strict=True) if owner == name] for name in candidates
    }


def score(changes: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Train the current project's scratch model with `changes` of its params (dotted key -> value), and score it."""
    data = Path("data").absolute()
    tree = params.tree_of_params()
    for key, value in {**changes, "run.seed": seed}.items():
        *above, last = key.split(".")
        functools.reduce(dict.__getitem__, above, tree)[last] = value
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary)
        for name in COPIED:
            (shutil.copytree if Path(name).is_dir() else shutil.copyfile)(name, project / name)
        (project / "data").symlink_to(data)
        (project / params.PARAMS).write_text(yaml.safe_dump(tree), encoding="utf-8")
        common.run_stage(STAGE, project)
        model = registry.load(project / checkpoint.path(MODEL))
        val_loss = files.read_json(project / f"metrics/{STAGE}.json")["val_loss"]
    test = load_folder(SPLIT / "test", model.about.resolution, 1000, model.about.classes)
    logits, _ = forward.look(model.network, test.pixels, model.about, params.load("run", params.Run))
    probabilities = calibrated(logits, model.calibration.temperature).numpy()
    return {
        "val loss": val_loss,
        "test loss": float(log_loss(test.labels, probabilities / probabilities.sum(1, keepdims=True))),
        "test accuracy": float((probabilities.argmax(1) == test.labels).mean()),
        "test macro F1": metrics.macro_f1(test.labels, probabilities),
    }


def rows(scores: Mapping[str, list[dict[str, float]]]) -> Iterator[list[str]]:
    """A row per metric: the means of both candidates, and their difference."""
    for metric in next(iter(scores.values()))[0]:
        before, after = (np.array([of_seed[metric] for of_seed in of_candidate]) for of_candidate in scores.values())
        test = stats.ttest_ind(after, before, equal_var=False)
        low, high = test.confidence_interval(metrics.CONFIDENCE)
        difference = f"{after.mean() - before.mean():+.3f} ({low:+.3f} to {high:+.3f})"
        yield [metric, f"{before.mean():.3f}", f"{after.mean():.3f}", difference, f"{test.pvalue:.2g}"]


def listed(values: Mapping[str, Any]) -> str:
    """Params as inline code."""
    return ", ".join(
        f"`{key}={value:.3g}`" if isinstance(value, float) else f"`{key}={value}`" for key, value in values.items()
    )


if __name__ == "__main__":
    main()
