"""Experiments, seeds and the search, on a real repository."""

import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import commit, darkroom, run, surroundings, wait_until_none
from darkroom.experiments import seeds, tune
from darkroom.system import lock


def command_lines(project: Path) -> list[str]:
    """Those of the processes that work in `project`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(project):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended, or is another user's
            continue
    return found


SPACE = """
stage: train_scratch
params:
  train_scratch.lr: {low: 0.000001, high: 0.3, log: true}
  train_scratch.ema: {choices: [0.0, 0.5]}
"""


def test_the_search_goes_on_after_it_was_killed(small: Path) -> None:
    (small / "tune.yaml").write_text(SPACE)
    search = ("darkroom", "tune", "--name", "tried", "--trials")
    process = subprocess.Popen([*search, "9"], cwd=small, env=surroundings(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert next(process.stdout).startswith("trial 0: val loss")
    wait_until_none(lambda: [] if any("train_scratch" in one for one in command_lines(small)) else [small])
    process.kill()  # in the midst of the training of trial 1
    process.wait()
    wait_until_none(lambda: [small] if command_lines(small) else [])
    printed = run(*search, "2", cwd=small)
    assert "trial 1" not in printed  # the killed one is told as failed, and its params are tried under another number
    assert "| 0, as they are |" in printed
    assert "Only val was looked at." in printed
    assert "None is better than the params as they are." in printed or "dvc exp apply tune-tried-" in printed
    run("dvc", "exp", "apply", "tune-tried-2", cwd=small)
    assert (small / ".darkroom/tune/tried.png").stat().st_size > 10_000
    changed = run("git", "diff", "--name-only", cwd=small)
    assert "metrics/train_scratch.json" in changed
    assert "predictions" not in changed  # test was never read

    assert "not committed" in run(*search, "1", cwd=small, code=2)
    run("git", "checkout", "-q", ".", cwd=small)
    (small / "tune.yaml").write_text(SPACE.replace("0.3", "0.4"))
    assert "was begun with other search space" in run(*search, "1", cwd=small, code=2)


@pytest.mark.fast
def test_the_stages_own_reason_is_told() -> None:
    """DVC has the last word, but knows no more than the exit code."""
    stage, last = (
        "darkroom train_scratch: the training diverged in epoch 2",
        "ERROR: failed to reproduce 'train_scratch'",
    )
    assert tune.why([f"{stage}\n", "\n", f"{last}\n", "hints\n"]) == stage
    assert tune.why([f"{last}\n", "hints\n"]) == last


@pytest.mark.parametrize("storage", ["nowhere", "sqlite:////no folder/x.db", "mysql://example.org/x"])
def test_storages_that_are_refused(storage: str, digits: Path) -> None:
    (digits / "tune.yaml").write_text(SPACE)
    commit(digits, "A space")
    printed = darkroom("tune", "--storage", storage, cwd=digits, code=2)
    assert f"--storage {storage} cannot hold the study (" in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.fast
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
def test_search_spaces_that_are_refused(text: str, message: str, folder: Path) -> None:
    (folder / "tune.yaml").write_text(text)
    printed = darkroom("tune", cwd=folder, code=2)
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.fast
def test_names_of_studies_that_are_refused(folder: Path) -> None:
    for name in ("../evil", "a b", "", "-x"):
        printed = darkroom("tune", f"--name={name}", cwd=folder, code=2)
        assert "use letters, digits, - and _ alone" in printed
    assert not list(folder.rglob("*.log"))


def test_seeds_say_what_difference_would_show(copy: Path) -> None:
    """Without t-SNE, which takes time and changes no metric."""
    for path, above in (("dvc.yaml", "stages"), ("params.yaml", None)):
        tree = yaml.safe_load((copy / path).read_text())
        del (tree[above] if above else tree)["tsne"]
        (copy / path).write_text(yaml.safe_dump(tree, sort_keys=False))
    commit(copy, "No t-SNE")
    printed = run("darkroom", "seeds", "--count", "2", cwd=copy)
    assert "2 seeds from 1 on" in printed
    assert "| from scratch | accuracy |" in printed
    assert "Running stage" not in run("darkroom", "seeds", "--count", "2", cwd=copy)


@pytest.mark.fast
def test_detectable_difference_is_the_textbooks() -> None:
    """Cohen 1988, table 2.4.1: 17 in each group find d = 1 with power 0.80; 64 find d = 0.5."""
    assert seeds.detectable(1.0, 17) == pytest.approx(1.0, abs=0.02)
    assert seeds.detectable(1.0, 64) == pytest.approx(0.5, abs=0.005)


def test_an_experiment_in_a_temporary_copy_gives_the_same_bytes(small: Path) -> None:
    """What `dvc exp run --temp` makes anew in its own folder, against the work tree's. Only a param of stats differs."""
    change = "stats.contact_sheet=5"
    printed = run("dvc", "exp", "run", "--temp", "--force", "-n", "other", "-S", change, cwd=small)
    here = lock.read(small)
    assert all(f"Running stage '{name}'" in printed for name in here)
    reference = run("git", "for-each-ref", "--format=%(refname)", "refs/exps", cwd=small).splitlines()
    other = next(name for name in reference if name.endswith("/other"))
    there = lock.parse(run("git", "show", f"{other}:dvc.lock", cwd=small))
    changed = {
        path
        for name, stage in here.items()
        for path, md5 in lock.outs(stage).items()
        if lock.outs(there[name])[path] != md5
    }
    assert changed == {"plots/contact_sheets"}
