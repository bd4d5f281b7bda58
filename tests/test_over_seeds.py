"""Several seeds on both sides: metrics/seeds.json, the verdicts over seeds, and the gate."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from conftest import clone_of, commit, darkroom, read_csv, read_json, run, vouch
from darkroom.comparison import over_seeds
from darkroom.evaluation import paired, per_class, seed_runs
from darkroom.evaluation.per_class import OfClass
from darkroom.evaluation.seed_runs import Result, Runs
from darkroom.evaluation.titles import METRICS
from darkroom.system import files


def recipe(random: np.random.Generator, shared: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which images five trainings of one recipe are right about, bool (5, N). Each is biased towards classes of its own."""
    logits = shared + 0.3 * random.normal(size=(5, *shared.shape)) + 0.4 * random.normal(size=(5, 1, shared.shape[1]))
    logits[:, np.arange(len(labels)), labels] += 2.4
    right: np.ndarray = logits.argmax(2) == labels
    return right


@pytest.mark.fast
def test_the_level_holds_over_seeds_and_not_for_two_models() -> None:
    """400 pairs of recipes that are equal but for their seeds."""
    random, units = np.random.default_rng(0), np.arange(300)
    by_models, by_seeds, worse = [], [], []
    for _ in range(400):
        labels, shared = random.integers(0, 4, 300), random.normal(size=(300, 4))
        base, head = (recipe(random, shared, labels) for _ in range(2))
        by_models.append(paired.accuracy_test(base[0], head[0], units).two_sided < 0.05)
        test = seed_runs.welch(base.mean(1), head.mean(1))
        by_seeds.append(test.two_sided < 0.05)
        worse.append(test.less < 0.05)
    margin = 3 * math.sqrt(0.05 * 0.95 / 400)
    assert np.mean(by_models) > 0.15
    assert np.mean(by_seeds) == pytest.approx(0.05, abs=margin)
    assert np.mean(worse) == pytest.approx(0.05, abs=margin)


@pytest.mark.fast
def test_welch_by_hand() -> None:
    """Welch 1947; the degrees of freedom by Satterthwaite's formula, here t = 2.19 with 2.44 degrees of freedom."""
    base, head = [0.8, 0.82, 0.84], [0.9, 0.84, 0.96]
    variances = 0.0004 / 3, 0.0036 / 3
    t = 0.08 / math.sqrt(sum(variances))
    freedom = sum(variances) ** 2 / sum(one**2 / 2 for one in variances)
    assert (round(t, 2), round(freedom, 2)) == (2.19, 2.44)
    found = seed_runs.welch(base, head)
    assert found.difference[:2] == pytest.approx((0.82, 0.9))
    assert found.difference.low < 0 < found.difference.high
    half = (found.difference.high - found.difference.low) / 2
    assert stats.t.ppf(0.975, freedom) * math.sqrt(sum(variances)) == pytest.approx(half)
    assert found.two_sided == pytest.approx(2 * stats.t.sf(t, freedom))
    assert found.less == pytest.approx(1 - found.two_sided / 2)


@pytest.mark.fast
@pytest.mark.filterwarnings("error")
def test_without_any_variation_there_is_no_verdict() -> None:
    assert np.isnan(seed_runs.welch([0.9] * 3, [0.8] * 3)[1:]).all()
    assert seed_runs.welch([0.9] * 3, [0.8, 0.81, 0.82]).less < 0.01


def runs(shift: float, count: int) -> Runs:
    """Runs whose accuracy varies little around 0.9 + `shift`, and whose recall of the class "same" does not vary."""
    values = [0.9 + shift + 0.001 * index for index in range(count)]
    recalls = {"m": {"falls": values, "same": [0.5] * count}}
    return Runs(list(range(count)), 99, {"m": "M"}, {"m": {"accuracy": values, "auroc": values}}, recalls)


@pytest.mark.fast
def test_the_gate_looks_at_five_seeds_or_more() -> None:
    """What varies on neither side is left to the paired test of the two models."""
    assert not over_seeds.falls(runs(0, 4), runs(-0.1, 5))
    found = over_seeds.falls(runs(0, 5), runs(-0.1, 5))
    assert found.keys() == {("m", None), ("m", "falls")}
    assert all(p < 1e-3 for p in found.values())
    assert over_seeds.falls(runs(-0.1, 5), runs(0, 5))["m", None] > 0.999


def first_result() -> Result:
    """The results of the first of `runs(0, ...)`."""
    value = {"value": 0.9}
    classes = {
        label: OfClass(9, recall, 0.0, 1.0, None, None, "few") for label, recall in (("falls", 0.9), ("same", 0.5))
    }
    return Result({"count": 99, "m": {"title": "M", "accuracy": value, "auroc": value}}, {"m": classes})


def change(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    """A function that sets a key of the content of seeds.json."""
    return lambda tree: tree.update({key: value})


@pytest.mark.fast
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (change("seeds", [1, 2, 3, 4, 5]), "a metrics/seeds.json of other results"),
        (change("count", 1), "a metrics/seeds.json of other results"),
        (lambda tree: tree["models"].pop("m"), "a metrics/seeds.json of other results"),
        (
            lambda tree: tree["models"]["m"]["recall"]["falls"].__setitem__(0, 0.123),
            "a metrics/seeds.json of other results",
        ),
        (change("seeds", [0]), "a damaged metrics/seeds.json"),
        (change("seeds", [0, 1, 2, 3, 0]), "a damaged metrics/seeds.json"),
        (change("seeds", [0, 1, 2, 3]), "a damaged metrics/seeds.json"),
        (change("models", None), "a damaged metrics/seeds.json"),
        (lambda tree: tree["models"]["m"]["accuracy"]["values"].__setitem__(1, None), "a damaged metrics/seeds.json"),
    ],
)
def test_seeds_belong_to_the_results_of_one_of_them(spoil: Callable[[dict[str, Any]], object], what: str) -> None:
    def belonging(tree: object) -> tuple[Runs | None, str]:
        return seed_runs.belonging(json.dumps(tree).encode(), first_result, ["m"], 0)

    tree = json.loads(json.dumps(seed_runs.as_tree(runs(0, 5))))
    assert belonging(tree) == (runs(0, 5), "")
    spoil(tree)
    assert belonging(tree) == (None, what)
    assert seed_runs.belonging(None, first_result, ["m"], 0) == (None, "no metrics/seeds.json")


def written(project: Path, count: int, shift: float = 0.0) -> None:
    """Shift all metrics and recalls, and write metrics/seeds.json with them and count - 1 results that are close."""
    results = Result(
        read_json(project / "metrics/evaluate.json"), per_class.read((project / per_class.PATH).read_bytes())
    )
    first = shifted(results, lambda: shift)
    files.write_json(project / "metrics/evaluate.json", first.scores)
    files.write_csv(project / per_class.PATH, per_class.HEADER, per_class.rows(first.classes))
    vouch(project)
    random = np.random.default_rng(count)
    others = {seed: shifted(first, lambda: random.normal(0, 0.01)) for seed in range(2, count + 1)}
    runs = seed_runs.collect({1: first, **others}, ["scratch", "finetune"])
    files.write_json(project / seed_runs.PATH, seed_runs.as_tree(runs))


def shifted(results: Result, by: Callable[[], float]) -> Result:
    """The same with other metrics and recalls."""
    other: dict[str, Any] = json.loads(json.dumps(results.scores))
    for model in ("scratch", "finetune"):
        for metric in METRICS:
            other[model][metric]["value"] += by()
    classes = {
        model: {
            label: of._replace(recall=float(f"{of.recall + by():.6g}")) for label, of in by_class.items() if of.recall
        }
        for model, by_class in results.classes.items()
    }
    return Result(other, classes)


@pytest.fixture
def seeded(rebuilt: Path, tmp_path: Path) -> Path:
    """A clone of `rebuilt` whose branch main has five seeds; the branch `idea` is checked out, without a change."""
    clone = clone_of(rebuilt, tmp_path / "a clone")
    written(clone, 5)
    commit(clone, "Seeds")
    run("git", "switch", "-q", "-c", "idea", cwd=clone)
    return clone


def test_the_change_is_judged_over_seeds(seeded: Path) -> None:
    """The two models are the same, the means over seeds are not."""
    written(seeded, 6, -0.2)
    commit(seeded, "Worse under the other seeds")
    printed = darkroom("compare", "main", "idea", "--fail-on", "worse", "--html", "page.html", cwd=seeded, code=1)
    change, models = printed.split("### The two trained models")
    assert "### The change, over 5 and 6 seeds" in change
    assert change.count("| **worse** |") == 8
    assert change.count("| **better** |") == 2  # the calibration error fell by as much
    assert "no evidence" not in change
    assert "no evidence" not in models  # nothing is said of models with the same predictions
    assert "These verdicts are about the two trained models, on these images." in models
    assert "scratch: the accuracy is worse (p" in printed
    assert "over 5 and 6 seeds, by Welch's t test, one-sided" in printed
    assert "The change, over 5 and 6 seeds" in (seeded / "page.html").read_text()

    tree = json.loads(darkroom("compare", "main", "idea", "--json", cwd=seeded))
    assert all(test["over_seeds"] for test in tree["gate"])
    line = next(one for one in tree["over_seeds"]["headlines"] if one["metric"] == "accuracy")
    assert line["difference"]["value"] == pytest.approx(line["difference"]["head"] - line["difference"]["base"])
    assert line["difference"]["low"] < line["difference"]["value"] < line["difference"]["high"] < 0
    darkroom("pr-report", "main", cwd=seeded)
    report = (seeded / "report/report.md").read_text()
    assert "### The change, over 5 and 6 seeds" in report
    assert "- taken as it is, not rebuilt: `metrics/seeds.json`" in report


def test_the_entry_of_a_removed_stage_in_dvc_lock_does_not_matter(seeded: Path) -> None:
    """DVC keeps it, and `dvc repro` cannot bring it up to date."""
    locked = yaml.safe_load((seeded / "dvc.lock").read_text())
    locked["stages"]["removed"] = {"cmd": "true", "params": {"params.yaml": {"removed.lr": 0.1}}}
    (seeded / "dvc.lock").write_text(yaml.safe_dump(locked))
    commit(seeded, "A stage less")
    darkroom("compare", "main", "idea", cwd=seeded)


def test_two_seeds_judge_the_change_and_leave_the_gate_to_the_models(seeded: Path) -> None:
    written(seeded, 2, -0.2)
    commit(seeded, "Two seeds")
    printed = darkroom("compare", "main", "idea", "--fail-on", "worse", cwd=seeded)
    assert "### The change, over 5 and 2 seeds" in printed
    assert "only large differences can show, and `--fail-on worse` is about the two trained models." in printed


def test_seeds_that_cannot_be_used_are_said(seeded: Path) -> None:
    path = seeded / seed_runs.PATH
    path.write_text(json.dumps({**read_json(path), "seeds": [2, 3, 4, 5, 6]}))
    printed = darkroom("compare", "main", cwd=seeded)
    assert "The change, over" not in printed
    assert (
        "A training under another seed can give another verdict. To judge the change itself, run `darkroom seeds` at both "
        "commits and commit metrics/seeds.json: `the work tree` has a metrics/seeds.json of other results.\n" in printed
    )
    path.write_text("<<<<<<< HEAD\n")
    assert "`the work tree` has a damaged metrics/seeds.json." in darkroom("compare", "main", cwd=seeded)


def test_seeds_do_not_judge_other_test_images_or_another_metric(seeded: Path) -> None:
    vouch(seeded, {"evaluate": {"bins": 5}})
    printed = darkroom("compare", "main", cwd=seeded)
    change = printed.split("### The two trained models")[0]
    assert "Left out, because the params with which it is computed differ: calibration error." in change
    assert "| calibration error |" not in change

    manifest = (seeded / "data/manifest.csv").read_text()
    row = next(line for line in manifest.splitlines() if ",test," in line)
    digest = row.split(",")[4]
    (seeded / "data/manifest.csv").write_text(manifest.replace(digest, "0" * 64))
    vouch(seeded)
    printed = darkroom("compare", "main", cwd=seeded)
    assert "Seeds cannot judge the change itself, because the two were tested on different images" in printed


def test_seeds_alone_are_no_new_results(seeded: Path) -> None:
    """Neither for the gate, which would compare results with themselves, nor for the report of a pull request."""
    written(seeded, 4)
    for command in ("compare", "pr-report"):
        printed = darkroom(command, "HEAD", "--fail-on", "worse", cwd=seeded, code=2)
        assert "have the same results, so that the gate would let everything pass" in printed
    darkroom("pr-report", "HEAD", cwd=seeded)
    assert "are not those that the branch has committed" not in (seeded / "report/report.md").read_text()


def test_seeds_are_of_the_results_after_a_change_that_reaches_no_model(one_model: Path) -> None:
    """Two seeds, of which one is trained anew."""
    project = one_model
    printed = run("darkroom", "seeds", "--count", "2", cwd=project)
    assert "2 seeds from 1 on" in printed
    assert "| from scratch | accuracy |" in printed
    assert "`metrics/seeds.json` has these results" in printed
    tree = read_json(project / "metrics/seeds.json")
    scores = read_json(project / "metrics/evaluate.json")
    accuracy = tree["models"]["scratch"]["accuracy"]
    assert accuracy["values"][0] == scores["scratch"]["accuracy"]["value"]
    assert accuracy["mean"] == pytest.approx(np.mean(accuracy["values"]), rel=1e-5)
    recalls = {label: values[0] for label, values in tree["models"]["scratch"]["recall"].items()}
    assert recalls == {row["class"]: float(row["recall"]) for row in read_csv(project / per_class.PATH)}
    shown = run("dvc", "metrics", "show", "metrics/seeds.json", cwd=project)
    assert "models.scratch.accuracy.standard_deviation" in shown
    assert "values" not in shown
    commit(project, "Seeds")

    vouch(project, {"stats": {"contact_sheet": 5}})
    printed = darkroom("compare", "HEAD", cwd=project)
    assert "### The change, over 2 and 2 seeds" in printed  # no result of a model has changed
    assert "of other results" not in printed
