"""`darkroom compare`: statistics against other implementations and by simulation, and the command on a real repository."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from conftest import clone_of, run, vouch
from darkroom.comparison import compare, data_diff
from darkroom.evaluation import bootstrap, metrics


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two models' probabilities of 300 images in four classes, with ties among the scores."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 300)
    base, head = (random.dirichlet(np.ones(4), 300) + 0.5 * np.eye(4)[labels] for _ in range(2))
    return labels, *((own / own.sum(1, keepdims=True)).round(2) for own in (base, head))


def test_weighted_statistics_are_scikit_learns(answers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, own, _ = answers
    weights = np.random.default_rng(1).multinomial(300, np.full(300, 1 / 300), size=3)
    for row, weight in enumerate(weights):
        one = {"sample_weight": weight}
        areas = [sk.roc_auc_score(labels == k, own[:, k], **one) for k in range(4)]
        f1 = sk.f1_score(labels, own.argmax(1), average="macro", **one)
        assert bootstrap.accuracy(lambda y, p: p.argmax(1) == y)(labels, own, weights)[row] == pytest.approx(
            sk.accuracy_score(labels, own.argmax(1), **one)
        )
        assert bootstrap.macro_f1(labels, own, weights)[row] == pytest.approx(f1)
        assert bootstrap.auroc(labels, own, weights)[row] == pytest.approx(np.mean(areas))


def test_the_interval_is_scipys(answers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """SciPy's paired bootstrap of the same difference, by its own draws."""
    labels, base, head = answers
    found = bootstrap.differences({"macro_f1": bootstrap.macro_f1}, labels, base, head, 2000)["macro_f1"]

    def difference(chosen: np.ndarray) -> float:
        return metrics.macro_f1(labels[chosen], head[chosen]) - metrics.macro_f1(labels[chosen], base[chosen])

    theirs = stats.bootstrap(
        (np.arange(300),), difference, vectorized=False, n_resamples=1000, method="percentile", rng=2
    ).confidence_interval
    assert found.head - found.base == pytest.approx(difference(np.arange(300)))
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_mcnemar_and_holm_on_known_cases() -> None:
    """Agresti's approval ratings (Categorical Data Analysis, table 10.1): 86 against 150; Holm's rule by hand."""
    first = np.array([True] * 150 + [False] * 86)
    assert metrics.mcnemar(first, ~first)["p"] == pytest.approx(stats.binomtest(86, 236).pvalue)
    assert metrics.mcnemar(first, ~first)["p"] == pytest.approx(3.7e-5, rel=0.02)
    assert metrics.mid_p(3, 3) == pytest.approx(0.5)
    assert metrics.mid_p(5, 0) == pytest.approx(0.5**5 / 2)
    assert metrics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_the_gate_fires_in_five_of_a_hundred_cases_of_no_difference() -> None:
    """1,000 pairs of equally good models on 663 images: 5 %, give or take three standard errors of the simulation."""
    random = np.random.default_rng(3)
    fired = 0
    for _ in range(1000):
        hard = random.random(663) < 0.25
        base, head = (~hard | (random.random(663) < 0.45) for _ in range(2))
        fired += metrics.mid_p(int((base & ~head).sum()), int((head & ~base).sum())) < metrics.LEVEL
    assert abs(fired / 1000 - 0.05) < 3 * (0.05 * 0.95 / 1000) ** 0.5


def test_intervals_of_no_difference_hold_zero() -> None:
    """400 pairs of equal models: the 95 % interval of macro F1's difference misses zero in about 5 %."""
    random = np.random.default_rng(4)
    missed = 0
    for seed in range(400):
        labels = random.integers(0, 3, 200)
        base, head = (np.eye(3)[labels] + random.gumbel(size=(200, 3)) * 0.5 for _ in range(2))
        found = bootstrap.differences({"macro_f1": bootstrap.macro_f1}, labels, base, head, 300, seed)["macro_f1"]
        missed += found.low > 0 or found.high < 0
    assert abs(missed / 400 - 0.05) < 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.fixture
def branch(rebuilt: Path, tmp_path: Path) -> Path:
    """A clone without DVC's cache, whose branch `idea` trains otherwise, adds an image to test and relabels one there."""
    clone = clone_of(rebuilt, tmp_path / "a clone")
    run("git", "switch", "-q", "-c", "idea", cwd=clone)
    with (clone / "plots/predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    classes = sorted({row["actual"] for row in rows})
    for row in rows:  # from scratch: always right, and sure of it; fine-tuned: as before
        for label in classes:
            row[f"scratch_{label}"] = str(float(label == row["actual"]))
        row["scratch"] = row["actual"]
    manifest = (clone / "data/manifest.csv").read_text()
    new = {**rows[0], "path": f"{classes[0]}/new.png"}
    (clone / "data/manifest.csv").write_text(f"{manifest}{classes[0]}/new.png,{classes[0]},test,,{'0' * 64},\n")
    with (clone / "plots/predictions.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, new])
    vouch(clone, {"train_scratch": {"lr": 0.01}})
    return clone


def test_compare_says_what_is_better_and_what_is_not(branch: Path) -> None:
    printed = run("darkroom", "compare", cwd=branch)  # where the branch left main, and the work tree
    with (branch / "plots/predictions.csv").open(newline="") as stream:
        count = len(list(csv.DictReader(stream)))
    assert (
        f"The test sets differ ({count - 1} and {count} images): what follows is on the {count - 1} images" in printed
    )
    assert "only large differences can show" in printed
    assert "left out" not in printed
    assert "| from scratch | accuracy |" in printed
    assert "| **better** |" in printed
    assert "fine-tuned: 0 now right, 0 now wrong" in printed
    assert "| `train_scratch.lr` | `0.05` | `0.01` |" in printed
    assert "| added | `mono-defective` | test | 1 |" in printed

    run("git", "commit", "-q", "-am", "An idea", cwd=branch)
    tree = json.loads(run("darkroom", "compare", "main", "idea", "--json", cwd=branch))
    assert tree["images"] == {"base": count - 1, "head": count, "shared": count - 1, "unknown": 0}
    verdicts = {(line["model"], line["figure"]): line["word"] for line in tree["headlines"]}
    assert verdicts["scratch", "accuracy"] == verdicts["scratch", "macro_f1"] == "better"
    assert verdicts["scratch", "ece"] is None  # of which no interval is to be trusted
    assert {word for (model, _), word in verdicts.items() if model == "finetune"} == {"no evidence", None}
    assert tree["flips"]
    assert all(flip["head"] == flip["actual"] for flip in tree["flips"])
    run("darkroom", "compare", "main", "--html", "page.html", cwd=branch)
    page = (branch / "page.html").read_text()
    assert page.count("now right") == len(tree["flips"])
    assert page.count("data:image/png;base64,") == len(tree["flips"])


def test_the_gate(branch: Path) -> None:
    run("git", "commit", "-q", "-am", "An idea", cwd=branch)
    gate = ("--fail-on", "worse", "--max-drop", "accuracy=0.01", "--max-drop", "ece=0.01")
    run("darkroom", "compare", "main", "idea", *gate, cwd=branch)
    printed = run("darkroom", "compare", "idea", "main", *gate, cwd=branch, code=1)
    assert "scratch: the accuracy is worse (mid-p" in printed
    assert "scratch: accuracy is worse by" in printed
    assert "scratch: ece is worse by" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "Git knows no revision 'nowhere'"),
        (["main~1"], "'main~1' has no dvc.lock: it is from before"),
        (["main", "--fail-on", "better"], "the one thing to fail on is 'worse'"),
        (["main", "--max-drop", "accuracy"], "say a figure and how far it may fall"),
        (["main", "--max-drop", "accuracy=nan"], "say a figure and how far it may fall"),
        (["main", "--max-drop", "accuracy=-1"], "say a figure and how far it may fall"),
        (["main", "--max-drop", "beauty=1"], "there is no such figure here"),
    ],
)
def test_what_cannot_be_compared(branch: Path, arguments: list[str], message: str) -> None:
    printed = run("darkroom", "compare", *arguments, cwd=branch, code=2)
    assert message in printed
    assert len(printed.strip().splitlines()) == 1


def test_images_of_a_renamed_class_are_left_out_and_said(branch: Path) -> None:
    for path in ("plots/predictions.csv", "data/manifest.csv"):
        text = (branch / path).read_text()
        (branch / path).write_text(text.replace("poly-defective", "poly-cracked"))
    vouch(branch)
    printed = run("darkroom", "compare", "main", cwd=branch)
    assert "that both hold are left out, for one of the two does not know their class" in printed
    assert "macro F1" not in printed


def test_few_images_get_no_word_but_the_exact_tests() -> None:
    """Macro F1 and AUROC of 12 images: their intervals would call equal models different too often."""
    labels = np.arange(12) % 3
    good, bad = np.eye(3)[labels], np.eye(3)[(labels + 1) % 3]
    found = list(compare.headlines("scratch", labels, good, bad, {"accuracy": compare.is_right}, 5))
    assert {line.figure: line.word for line in found} == {
        "accuracy": "worse",
        "macro_f1": None,
        "auroc": None,
        "ece": None,
    }


def test_a_drop_to_the_limit_is_no_more_than_the_limit() -> None:
    fallen = compare.Headline("scratch", "accuracy", bootstrap.Difference(1.0, 0.95, -0.2, 0.0), 1.0, "no evidence")
    own = compare.Comparison("a", "b", {}, 0, [fallen], [], [], {}, {}, [], [])
    assert not compare.failures(own, False, {"accuracy": 0.05})
    assert compare.failures(own, False, {"accuracy": 0.049})


def test_a_manifest_of_another_run_is_refused(branch: Path) -> None:
    lines = (branch / "data/manifest.csv").read_text().splitlines(keepends=True)
    (branch / "data/manifest.csv").write_text("".join(lines[:-1]))
    printed = run("darkroom", "compare", "main", cwd=branch, code=2)
    assert "are not of one run (1 of the test images differ)" in printed


@pytest.mark.parametrize(
    ("path", "spoil", "message"),
    [
        (
            "plots/predictions.csv",
            lambda text: text.replace("path,", "place,", 1),
            "predictions.csv of the work tree is damaged",
        ),
        (
            "plots/predictions.csv",
            lambda text: text.replace(",1.0,", ",nan,", 1),
            "predictions.csv of the work tree is damaged",
        ),
        (
            "plots/predictions.csv",
            lambda text: text.replace(",1.0,", ",0.5,", 1),
            "predictions.csv of the work tree is damaged",
        ),
        ("plots/predictions.csv", lambda text: text + text.splitlines()[-1] + "\n", "are not of one run"),
        (
            "plots/predictions.csv",
            lambda text: text.replace(".png,mono-functional,", ".png,mono-defective,", 1),
            "are not of one run",
        ),
        (
            "data/manifest.csv",
            lambda text: text.replace("sha256", "digest", 1),
            "manifest.csv of the work tree is damaged",
        ),
        ("dvc.lock", lambda text: text[:0], "params.yaml or dvc.lock of the work tree is damaged"),
        ("dvc.lock", lambda text: f"<<<<<<< HEAD\n{text}", "params.yaml or dvc.lock of the work tree is damaged"),
        (
            "params.yaml",
            lambda text: text.replace("bins: 15", "bins: many"),
            "params.yaml or dvc.lock of the work tree is damaged",
        ),
        (
            "params.yaml",
            lambda text: text.replace("lr: 0.01", "lr: 0.02"),
            "are not those of its params (train_scratch): run `dvc repro`",
        ),
        ("plots/roc.csv", lambda text: text + "x", "are not those of its plots/roc.csv: run `dvc repro`"),
        ("src/darkroom/networks/models.py", lambda text: text + "#\n", "are not those of its src/darkroom/networks/models.py"),
        ("data/raw.dvc", lambda text: text.replace("md5: ", "md5: 0"), "are not those of its data/raw: run"),
    ],
)
def test_damaged_and_stale_results_are_refused(
    branch: Path, path: str, spoil: Callable[[str], str], message: str
) -> None:
    text = (branch / path).read_text()
    assert spoil(text) != text
    (branch / path).write_text(spoil(text))
    printed = run("darkroom", "compare", "main", cwd=branch, code=2)
    assert message in printed
    assert len(printed.strip().splitlines()) == 1


def test_the_base_is_never_guessed(branch: Path, tmp_path: Path) -> None:
    """A gate that compares a branch with itself would let all pass."""
    run("git", "commit", "-q", "-am", "An idea", cwd=branch)
    run("git", "clone", "-q", "--depth", "1", "-b", "idea", branch.as_uri(), tmp_path / "shallow", cwd=branch)
    printed = run("darkroom", "compare", "--fail-on", "worse", cwd=tmp_path / "shallow", code=2)
    assert "name the BASE to compare with, or fetch more history" in printed


def test_names_cannot_write_markdown() -> None:
    """A class or a file may bear any name: it must not call somebody, end a table's cell or become HTML."""
    row = data_diff.Row("<b>`@all`|/1.png", "<b>`@all`|", "test", "0" * 64, "")
    text = data_diff.markdown([data_diff.Change("added", None, row)], "a|b", "c")
    assert "| added | `` <b>`@all`\\| `` | test | 1 |" in text
    assert "- `` <b>`@all`|/1.png `` (test)" in text
