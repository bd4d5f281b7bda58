"""Cross-validation: the folds, the figures, and the whole command."""

import contextlib
import csv
import math
import shutil
import signal
import statistics
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, log_loss

from conftest import commit, read_csv, run, set_params, stage, surroundings, wait_until_none, write_digits
from darkroom.data import folds
from darkroom.data.manifest import Row
from darkroom.evaluation import means
from darkroom.experiments import crossval
from darkroom.system import dvc, git
from darkroom.system.errors import UserError
from test_experiments import command_lines, committed, experiments

SCORES = [0.81, 0.84, 0.79, 0.86, 0.83, 0.80, 0.85, 0.82, 0.84, 0.78]
RATIO = {"train": 0.5, "val": 0.25, "test": 0.25}
GROUPS = r"(digit-\d/\d\d)"  # ten images each


@pytest.mark.fast
def test_the_interval_over_folds_is_that_of_nadeau_and_bengio() -> None:
    """Ten folds, of a ninth of the other images each; 2.262157 is the 97.5 % quantile of t with 9 degrees of freedom."""
    found = means.over_folds(np.array(SCORES), 1 / 9)
    half = 2.262157 * math.sqrt((1 / 10 + 1 / 9) * statistics.variance(SCORES))
    assert found[:3] == pytest.approx((0.822, 0.822 - half, 0.822 + half), abs=1e-7)
    naive = stats.ttest_1samp(np.array(SCORES) - 0.8, 0)
    corrected = naive.statistic / math.sqrt(1 + 10 / 9)
    assert means.over_folds(np.array(SCORES) - 0.8, 1 / 9).p == pytest.approx(2 * stats.t.sf(corrected, 9))


@pytest.mark.fast
def test_the_interval_over_images_is_students() -> None:
    values = np.array(SCORES)
    alone = stats.ttest_1samp(values, 0.0)
    found = means.over_images(values, np.arange(10), 0.99)
    assert found == pytest.approx(
        (alone.statistic * alone._standard_error, *alone.confidence_interval(0.99), alone.pvalue)
    )
    pairs = stats.ttest_1samp(values.reshape(5, 2).mean(1), 0.0)
    assert means.over_images(values, np.arange(10) // 2)[1:] == pytest.approx(
        (*pairs.confidence_interval(), pairs.pvalue)
    )


@pytest.mark.fast
@pytest.mark.parametrize("text", ["", "1", "0/5", "6/5", "1/1", "1/5/0", "a/5", "1/5/1/1"])
def test_what_is_no_fold(text: str) -> None:
    with pytest.raises(ValueError, match="is no fold"):
        folds.read(text)


def judged(skill: float, name: str = "image") -> list[crossval.Judged]:
    """Five folds of 40 images, of which a model gives the class a probability that rises with its skill."""
    random = np.random.default_rng(0)
    found = []
    for number in range(1, 6):
        labels = np.arange(40) % 2
        first = (0.5 + skill * np.where(labels == 0, 1, -1) + random.normal(0, 0.2, 40)).clip(0.01, 0.99)
        rows = [
            Row(f"{name}-{number}-{index}", str(label), folds.HELD_OUT, f"{name}{number}{index}", "")
            for index, label in enumerate(labels)
        ]
        fold = folds.Fold(number, 5)
        found.append(crossval.Judged(fold, rows, labels, np.stack([first, 1 - first], 1), ["0", "1"], 160, 0))
    return found


@pytest.mark.fast
def test_two_revisions_are_compared_fold_by_fold() -> None:
    base, head = {"scratch": judged(0.05)}, {"scratch": judged(0.3)}
    rows = [line.split(" | ") for line in crossval.difference_as_markdown(base, head, 15, "v1").splitlines()]
    verdicts = {row[1]: row[-1].strip(" |") for row in rows if len(row) == 7}
    assert verdicts["accuracy"] == verdicts["log loss"] == verdicts["AUROC"] == "better"
    rows = [line.split(" | ") for line in crossval.difference_as_markdown(head, base, 15, "v1").splitlines()]
    assert {row[1]: row[-1].strip(" |") for row in rows if len(row) == 7}["log loss"] == "worse"
    assert "| no evidence |" in crossval.difference_as_markdown(base, base, 15, "v1")
    with pytest.raises(UserError, match="fold 1/5 of 'v1' holds other images"):
        crossval.refuse_other_images({"scratch": judged(0.3, "other")}, head, "v1")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("models", "settings", "message"),
    [
        (["scratch"], [], ""),
        (["scratch"], ["split.salt=b", "split.ratio.val=0.3", "train_scratch.lr=0.1"], ""),
        (["scratch"], ["split.salt=c"], "its split.salt is another one than that of HEAD"),
        (["scratch"], ["split.ratio.val=0.4"], "its split.ratio.val is another one"),
        (["scratch", "linear"], [], "its dvc.yaml has no train_linear: name the trainings that both have"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_trains(
    models: list[str], settings: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = "split: {salt: b, layout: LAYOUT, ratio: {val: 0.3}}"
    files = {
        ("v1", "params.yaml"): section.replace("LAYOUT", "files").replace("}}", "}, group: null}"),
        ("HEAD", "params.yaml"): section.replace("LAYOUT", "shards"),
        ("v1", "dvc.yaml"): "stages: {train_scratch: {}}",
        ("HEAD", "dvc.yaml"): "stages: {train_scratch: {}, train_linear: {}}",
    }
    monkeypatch.setattr(git, "show", lambda revision, path: files.get((revision, path), "").encode())
    monkeypatch.setattr(dvc, "commit", lambda name: name)
    plan = crossval.Plan(2, 1, (), settings, "v1")
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        crossval._refuse_against(plan, "HEAD", models)


def sides(project: Path) -> dict[str, str]:
    """The side of each image in the manifest."""
    return {row["path"]: row["split"] for row in read_csv(project / "data/manifest.csv")}


@pytest.mark.parametrize(("mode", "group"), [("hash", None), ("hash", GROUPS), ("shuffle", None)])
def test_folds_of_the_split(mode: str, group: str | None, folder: Path) -> None:
    """Each image of train and val is held out once, all others keep their sides, and neither groups nor copies part."""
    write_digits(folder / "data/raw", 80)  # fewer files than are worth processes of their own
    for number in range(10):
        shutil.copy(folder / f"data/raw/digit-0/00{number}.png", folder / f"data/raw/digit-0/20{number}.png")
    set_params(folder, {"split": {"mode": mode, "group": group, "ratio": RATIO}})
    stage("split")
    whole, written = sides(folder), (folder / "data/manifest.csv").read_bytes()
    held = []
    for number in (1, 2, 3):
        set_params(folder, {"split": {"fold": f"{number}/3"}})
        stage("split")
        parted = sides(folder)
        held.append({path for path, side in parted.items() if side == folds.HELD_OUT})
        rest = {path: side for path, side in whole.items() if path not in held[-1]}
        assert {path: side for path, side in parted.items() if path not in held[-1]} == rest
        assert not [path for path in held[-1] if list((folder / "data/split").glob(f"*/{path}"))]
    pool = {path for path, side in whole.items() if side in ("train", "val")}
    assert set.union(*held) == pool
    assert sum(map(len, held)) == len(pool)
    assert min(map(len, held)) > len(pool) / 6
    copies = [(f"digit-0/00{number}.png", f"digit-0/20{number}.png") for number in range(10)]
    both = [pair for pair in copies if pool >= set(pair)]
    assert both or group  # groups of copies may lie on two sides
    for each in held:
        assert all((one in each) == (other in each) for one, other in both)
        assert not group or not {path[:10] for path in each} & {path[:10] for path in pool - each}
    set_params(folder, {"split": {"fold": None}})
    stage("split")
    assert (folder / "data/manifest.csv").read_bytes() == written
    set_params(folder, {"split": {"fold": "1/99"}})
    with pytest.raises(Exception, match=r"split\.fold is 1/99, but train and val have"):
        stage("split")


def test_cross_validation_goes_on_after_it_was_killed_and_compares(digits: Path) -> None:
    set_params(digits, {"split": {"group": GROUPS, "ratio": RATIO}})
    commit(digits, "Groups")
    head = run("git", "rev-parse", "HEAD", cwd=digits).strip()
    words = ("darkroom", "crossval", "--folds", "2", "--stage", "train_scratch")
    run("git", "remote", "add", "darkroom", digits, cwd=digits)  # as docs/how-to/own-project.md calls it
    for against, message in (("HEAD", "is HEAD itself"), ("nowhere", "Git knows no revision 'nowhere'")):
        printed = run(*words, "--against", against, cwd=digits, code=2)
        assert message in printed
        assert "Running stage" not in printed
    process = subprocess.Popen(
        [*words, "--jobs", "1"], cwd=digits, env=surroundings(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert next(line for line in process.stdout if line.startswith("Reproducing experiment 'fold-2-of-2"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_none(lambda: [digits] if command_lines(digits) else [])
    assert {name for _, name in experiments(digits)} == {f"fold-1-of-2-scratch-{head[:7]}"}

    printed = run(*words, cwd=digits)
    assert printed.count("Running stage 'train_scratch'") == 1
    assert "Running stage 'evaluate'" not in printed
    rows = read_csv(digits / crossval.TABLE)
    found = {name: there for (_, name), there in experiments(digits).items()}
    first, second = (of_fold(digits, there) for there in found.values())
    held = [{row["path"] for row in each if row["split"] == folds.HELD_OUT} for each in (first, second)]
    tested = [{row["path"] for row in each if row["split"] == "test"} for each in (first, second)]
    assert not held[0] & held[1]
    assert {row["path"] for row in rows} == held[0] | held[1]
    assert tested[0] == tested[1] == {row["path"] for row in first} - held[0] - held[1]
    assert {row["fold"] for row in rows} == {"1", "2"}
    assert not {row["group"] for row in rows if row["fold"] == "1"} & {
        row["group"] for row in rows if row["fold"] == "2"
    }
    classes = sorted({row["actual"] for row in rows})
    probabilities = np.array([[float(row[f"probability_{label}"]) for label in classes] for row in rows])
    actual = np.array([classes.index(row["actual"]) for row in rows])
    balanced = balanced_accuracy_score(actual, probabilities.argmax(1))
    assert f"| {balanced:.3f} |" in next(line for line in printed.splitlines() if "balanced accuracy" in line)
    normalised = probabilities / probabilities.sum(1, keepdims=True)
    loss = log_loss(actual, normalised)
    assert f"| {loss:.3f} |" in next(line for line in printed.splitlines() if "log loss" in line)

    printed = run(*words, "--set", "train_scratch.epochs=1", "--against", "HEAD", cwd=digits)
    assert printed.count("Running stage 'train_scratch'") == 2  # those of HEAD are there
    changed = next(there for (_, name), there in experiments(digits).items() if name not in found)
    assert committed(digits, changed, "params.yaml")["train_scratch"]["epochs"] == 1
    of_first = np.array([row["fold"] == "1" for row in rows])
    mean = np.mean([log_loss(actual[own], normalised[own], labels=range(3)) for own in (of_first, ~of_first)])
    assert f"| scratch | log loss | {mean:.3f} |" in printed.split("Compared with `HEAD`")[1]
    assert run("git", "status", "--porcelain", cwd=digits) == ""


def of_fold(project: Path, there: str) -> list[dict[str, str]]:
    """The manifest of a commit."""
    return list(csv.DictReader(run("git", "show", f"{there}:data/manifest.csv", cwd=project).splitlines()))
