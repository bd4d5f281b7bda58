"""Experiments, seeds, the search and the report of a pull request, on a real repository."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, clone_of, run, surroundings, vouch, wait_until_none
from darkroom.experiments import seeds, tune


@pytest.fixture
def project(rebuilt: Path, tmp_path: Path) -> Path:
    shutil.copytree(rebuilt, tmp_path / "a copy", symlinks=True)
    return tmp_path / "a copy"


def test_three_queued_experiments(project: Path) -> None:
    """Queued from one commit, run one after another, each with all that it needs, and compared by name."""
    for epochs in (1, 2, 4):
        change = f"train_scratch.epochs={epochs}"
        run("dvc", "exp", "run", "--queue", "-n", f"epochs-{epochs}", "-S", change, "train_scratch", cwd=project)
    run("dvc", "exp", "run", "--run-all", "-j", "1", cwd=project)
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=project))
    names = {one["name"] for rev in shown for group in rev["experiments"] or [] for one in group["revs"]}
    assert names == {"epochs-1", "epochs-2", "epochs-4"}
    for epochs in (1, 2, 4):
        metrics = json.loads(
            run("git", "show", f"{commit(project, f'epochs-{epochs}')}:metrics/train_scratch.json", cwd=project)
        )
        assert metrics["epochs"] == epochs
    assert run("git", "status", "--porcelain", cwd=project) == ""
    assert "train_scratch.epochs" in run("dvc", "exp", "diff", "epochs-1", "epochs-4", cwd=project)
    run("dvc", "exp", "apply", "epochs-4", cwd=project)
    assert len((project / "plots/train_scratch.csv").read_text().splitlines()) == 5


def commit(project: Path, experiment: str) -> str:
    refs = run("git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps", cwd=project).splitlines()
    return next(ref.split()[0] for ref in refs if ref.endswith(f"/{experiment}"))


def is_under(link: Path, folder: Path) -> bool:
    """Whether a process works in `folder`."""
    try:
        return link.readlink().is_relative_to(folder)
    except OSError:  # it ended, or is another user's
        return False


SPACE = """
stage: train_scratch
params:
  train_scratch.lr: {low: 0.000001, high: 0.3, log: true}
  train_scratch.average: {choices: [0.0, 0.5]}
"""


def test_the_search_goes_on_after_it_was_killed(project: Path) -> None:
    (project / "tune.yaml").write_text(SPACE)
    search = ("darkroom", "tune", "--name", "tried", "--trials")
    process = subprocess.Popen([*search, "9"], cwd=project, env=surroundings(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert next(process.stdout).startswith("trial 0: val loss")
    time.sleep(2)
    process.kill()
    process.wait()
    wait_until_none(lambda: [path for path in Path("/proc").glob("[0-9]*/cwd") if is_under(path, project)])
    printed = run(*search, "3", cwd=project)
    assert "trial 1" not in printed  # the killed one is told as failed, and its params are tried under another number
    assert "| 0, as they are |" in printed
    assert "Only val was looked at." in printed
    assert "None is better than the params as they are." in printed or "dvc exp apply tune-tried-" in printed
    run("dvc", "exp", "apply", "tune-tried-2", cwd=project)
    assert (project / ".darkroom/tune/tried.png").stat().st_size > 10_000
    changed = run("git", "diff", "--name-only", cwd=project)
    assert "metrics/train_scratch.json" in changed
    assert "predictions" not in changed  # test was never read

    assert "not committed" in run(*search, "1", cwd=project, code=2)
    run("git", "checkout", "-q", ".", cwd=project)
    (project / "tune.yaml").write_text(SPACE.replace("0.3", "0.4"))
    assert "was begun with other search space" in run(*search, "1", cwd=project, code=2)


def test_the_stages_own_reason_is_told() -> None:
    """DVC has the last word, but knows no more than the exit code."""
    stage, last = (
        "darkroom train_scratch: the training diverged in epoch 2",
        "ERROR: failed to reproduce 'train_scratch'",
    )
    assert tune.why([f"{stage}\n", "\n", f"{last}\n", "hints\n"]) == stage
    assert tune.why([f"{last}\n", "hints\n"]) == last


@pytest.mark.parametrize("storage", ["nowhere", "sqlite:////no folder/x.db", "mysql://example.org/x"])
def test_storages_that_are_refused(storage: str, project: Path) -> None:
    (project / "tune.yaml").write_text(SPACE)
    run("git", "add", "-A", cwd=project)
    run("git", "commit", "-q", "-m", "A space", cwd=project)
    printed = run("darkroom", "tune", "--storage", storage, cwd=project, code=2)
    assert f"--storage {storage} cannot hold the study (" in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: evaluate\nparams: {}", "stage"),
        (
            "stage: train_scratch\nparams: {train_scratch.hope: {low: 0, high: 1}}",
            "params.train_scratch.hope: name a param",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.lr: {low: 1, high: 0}}",
            "params.train_scratch.lr: name a param",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.lr: {low: 0, high: 1, log: true}}",
            "params.train_scratch.lr: name a param",
        ),
        (
            "stage: train_scratch\nparams: {train_finetune.lr: {low: 0.1, high: 1}}",
            "only params of train_scratch can be searched",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.batch_size: {low: 1.5, high: 4}}",
            "params.train_scratch.batch_size cannot be 1.5 (Input should be a valid integer",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.dropout: {choices: [0.1, 1.5]}}",
            "params.train_scratch.dropout cannot be 1.5 (Input should be less than 1)",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.schedule: {choices: [2024-01-01]}}",
            "params.train_scratch.schedule.choices.0",
        ),
        ("- a", "mend it"),
        (": :", "not valid YAML"),
    ],
)
def test_search_spaces_that_are_refused(text: str, message: str, project: Path) -> None:
    (project / "tune.yaml").write_text(text)
    printed = run("darkroom", "tune", cwd=project, code=2)
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_names_of_studies_that_are_refused(project: Path) -> None:
    for name in ("../evil", "a b", "", "-x"):
        printed = run("darkroom", "tune", f"--name={name}", cwd=project, code=2)
        assert "use letters, digits, - and _ alone" in printed
    assert not list(project.parent.glob("*.log"))


def test_seeds_say_what_difference_would_show(project: Path) -> None:
    printed = run("darkroom", "seeds", "--count", "2", cwd=project)
    assert "2 seeds from 1 on" in printed
    assert "| from scratch | accuracy |" in printed
    assert "Running stage" not in run("darkroom", "seeds", "--count", "2", cwd=project)


def test_detectable_difference_is_the_textbooks() -> None:
    """Cohen 1988, table 2.4.1: 17 in each group find d = 1 with power 0.80; 64 find d = 0.5."""
    assert seeds.detectable(1.0, 17) == pytest.approx(1.0, abs=0.02)
    assert seeds.detectable(1.0, 64) == pytest.approx(0.5, abs=0.005)


def test_the_report_of_a_pull_request(rebuilt: Path, tmp_path: Path) -> None:
    """Between two branches of a repository, on a clone without DVC's cache."""
    clone = clone_of(rebuilt, tmp_path / "a clone")
    run("git", "switch", "-q", "-c", "idea", cwd=clone)
    metrics = clone / "metrics/evaluate.json"
    metrics.write_text(metrics.read_text().replace('"count": ', '"count": 1'))
    vouch(clone, {"evaluate": {"bins": 5}})
    run("git", "commit", "-q", "-am", "Fewer bins", cwd=clone)
    run("darkroom", "pr-report", "main", "--pictures", "https://example.org/", cwd=clone)
    text = (clone / "report/report.md").read_text()
    for part in (
        "Both were tested on the same",
        "| `evaluate.bins` | `15` | `5` |",
        "![tsne](https://example.org/plots/tsne.png)",
    ):
        assert part in text
    assert re.search(r"\| metrics/evaluate\.json +\| count +\|", text)
    assert "are those that the branch has committed" in text
    (clone / "plots/roc.csv").write_text("changed")
    vouch(clone)
    run("darkroom", "pr-report", "main", cwd=clone)
    assert (
        "not those that the branch has committed** (`dvc.lock`, `plots/roc.csv`)"
        in (clone / "report/report.md").read_text()
    )


def test_workflows_are_sound() -> None:
    """zizmor: among others that no untrusted code meets a token that can write."""
    run(Path(sys.executable).parent / "zizmor", "--offline", "--quiet", ".github/workflows", cwd=ROOT)
