"""`darkroom score`: figures on labelled images of another site, and operating points that val chose."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, f1_score, log_loss, precision_score, recall_score, roc_auc_score

from conftest import read_json
from darkroom.evaluation import metrics, unpaired
from darkroom.evaluation.unpaired import Share
from darkroom.inference.predictor import Predictor
from darkroom.scoring import figures, labelled, operating, session
from darkroom.scoring import text as texts
from darkroom.scoring.session import Choices
from darkroom.system.errors import UserError

CLASSES = ["eight", "one", "three"]
DIGIT = {"one": 1, "three": 3, "eight": 8}


def pictures(label: str) -> np.ndarray:
    digits = load_digits()
    return (digits.images[digits.target == DIGIT[label]] * 255 / 16).astype(np.uint8)


def logistic(classes: list[str]) -> Predictor:
    """A logistic regression of scikit-learn's on 8 x 8 digits: the first 30 of each class train it, the next 70 are val."""
    train, val = (
        np.concatenate([pictures(label)[part].reshape(-1, 64) / 255 for label in classes])
        for part in (slice(30), slice(30, 100))
    )
    fitted = LogisticRegression(C=0.02, max_iter=500).fit(train, np.repeat(range(len(classes)), 30))
    labels = np.repeat(range(len(classes)), 70)
    of_val = 1 - fitted.predict_proba(val)[np.arange(len(labels)), labels]

    def answer(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        grey = pixels[..., 0].reshape(len(pixels), -1) / 255
        return fitted.predict_proba(grey).round(6), np.zeros(len(pixels))

    return Predictor("logistic", classes, 8, (of_val, labels, np.zeros(len(labels))), answer)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another site: the other digits with much noise, as a folder with a folder per class and as a CSV with groups of four."""
    noise = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "table.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "group", "scanner"])
        for label in CLASSES:
            (tmp_path / "site" / label).mkdir(parents=True)
            for index, picture in enumerate(pictures(label)[100:160]):
                name = f"site/{label}/{index}.png"
                noisy = picture + noise.normal(0, 90, picture.shape)
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / name)
                table.writerow([name, label, f"{label} {index // 4}", "A" if index % 3 else "B"])
    return tmp_path


@pytest.mark.fast
def test_the_figures_are_those_of_scikit_learn(site: Path) -> None:
    tree, scored = figures.score(Path("none"), logistic(CLASSES), site / "site", None)
    predicted, found = scored.probabilities.argmax(1), tree["figures"]
    assert 0.5 < np.mean(predicted == scored.labels) < 0.95
    expected = {
        "accuracy": np.mean(predicted == scored.labels),
        "macro_f1": f1_score(scored.labels, predicted, average="macro"),
        "auroc": roc_auc_score(scored.labels, scored.probabilities, multi_class="ovr"),
        "log_loss": log_loss(scored.labels, scored.probabilities / scored.probabilities.sum(1, keepdims=True)),
    }
    for name, value in expected.items():
        assert found[name]["new"]["value"] == pytest.approx(value, abs=1e-9)
        assert found[name]["new"]["low"] < value < found[name]["new"]["high"]
    for index, row in enumerate(tree["classes"]):
        right = int((predicted[scored.labels == index] == index).sum())
        wilson = stats.binomtest(right, 60).proportion_ci(method="wilson")
        assert (row["recall"]["low"], row["recall"]["high"]) == pytest.approx((wilson.low, wilson.high))
    assert tree["no_test"] == "there is no project with results here"
    assert f"{expected['accuracy']:.3f}" in texts.as_markdown(tree)


@pytest.mark.fast
def test_groups_and_columns_of_a_table(site: Path) -> None:
    tree, scored = figures.score(Path("none"), logistic(CLASSES), site / "table.csv", None)
    means = {
        group: scored.probabilities[np.array(scored.about.groups) == group].mean(0).argmax()
        for group in scored.about.groups
    }
    right = [CLASSES[found] == group.split()[0] for group, found in means.items()]
    wilson = stats.binomtest(sum(right), 45).proportion_ci(method="wilson")
    assert tree["of_groups"]["accuracy"] == pytest.approx(
        {"value": np.mean(right), "low": wilson.low, "high": wilson.high}
    )
    assert (tree["groups"], tree["of_groups"]["mixed"]) == (45, 0)
    by_scanner = {row["value"]: row for row in tree["columns"]["scanner"]["values"]}
    assert {value: row["images"] for value, row in by_scanner.items()} == {"A": 120, "B": 60}
    of_b = np.array(scored.about.columns["scanner"]) == "B"
    expected = np.mean(scored.probabilities.argmax(1)[of_b] == scored.labels[of_b])
    assert by_scanner["B"]["accuracy"]["value"] == pytest.approx(expected)


@pytest.mark.fast
def test_mistakes_in_the_labels_are_one_sentence(site: Path) -> None:
    def says(source: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            labelled.read(site / source, CLASSES)

    says("nowhere", "does not exist")
    (site / "site/seven").mkdir()
    labelled.read(site / "site", CLASSES)  # a folder without images is no class
    Image.new("L", (8, 8)).save(site / "site/seven/x.png")
    says("site", r"does not know: 'seven' \(1 images\)")
    Image.new("L", (8, 8)).save(site / "site/x.png")
    says("site", "lies in no class folder")
    for content, message in {
        "file,label\n": "has no column path",
        "path,label\na.png,one\na.png,one\n": "twice",
        "path,label\na.png,one\nb.png,\n": "row 3 has no label",
        "path,label,group\na.png,one,g\nb.png,one,\n": "row 3 has no group",
        "path,label\na.png,one,two\n": "more or fewer cells",
        "path,label\n": "there is no image",
    }.items():
        (site / "bad.csv").write_text(content)
        says("bad.csv", message)


@pytest.mark.fast
def test_files_that_cannot_be_read_count_nowhere(site: Path) -> None:
    broken = site / "site/one/broken.png"
    broken.write_bytes(b"no image")
    tree, scored = figures.score(Path("none"), logistic(CLASSES), site / "site", None)
    assert [one["path"] for one in tree["failed"]] == [str(broken)]
    assert tree["images"] == len(scored.about.paths) == 180
    assert str(broken) not in scored.about.paths
    for path in (site / "site").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 181 images can be read"):
        figures.score(Path("none"), logistic(CLASSES), site / "site", None)


@pytest.mark.fast
def test_the_interval_of_a_difference_is_newcombes() -> None:
    """His example: 56 of 70 against 48 of 80."""
    sides = []
    for right, count in ((56, 70), (48, 80)):
        ends = stats.binomtest(right, count).proportion_ci(method="wilson")
        sides.append({"value": right / count, "low": ends.low, "high": ends.high})
    found = unpaired.difference(*sides)
    assert (found["low"], found["high"]) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    p = unpaired.p_value(Share(56 / 70, 70), Share(48 / 80, 80))
    z = stats.norm.isf(p / 2)  # at this level the interval reaches zero
    above, below = metrics.wilson(0.8, 70, z)[0], metrics.wilson(0.6, 80, z)[1]
    assert np.hypot(0.8 - above, below - 0.6) == pytest.approx(0.2)
    assert unpaired.p_value(Share(0.7, 10), Share(0.7, 20)) == 1
    assert "low" not in unpaired.difference({"value": 0.2}, sides[0])


@pytest.mark.fast
@pytest.mark.parametrize(("new", "old", "share"), [(20, 60, 0.9), (30, 30, 0.7), (60, 20, 0.97)])
def test_equal_shares_are_called_different_in_5_percent(new: int, old: int, share: float) -> None:
    """The level, over all outcomes of two binomial counts."""
    chance = np.outer(stats.binom.pmf(range(new + 1), new, share), stats.binom.pmf(range(old + 1), old, share))
    called = [
        [unpaired.p_value(Share(a / new, new), Share(b / old, old)) < 0.05 for b in range(old + 1)]
        for a in range(new + 1)
    ]
    assert 0.005 < (chance * called).sum() < 0.06


@pytest.mark.fast
def test_a_threshold_holds_the_sensitivity_that_was_asked_for(site: Path) -> None:
    asked = logistic(CLASSES)
    point = operating.threshold(asked, "eight", 0.9)
    own = np.sort(asked.known[0][asked.known[1] == 0])
    assert point.limit == pytest.approx(1 - own[63], abs=1e-6)  # the 64th of 70: 0.9 of 71, rounded up
    assert np.mean(1 - own >= point.limit) >= 0.9
    with pytest.raises(UserError, match="has 70 images of the class, and at least 99 are needed"):
        operating.threshold(asked, "eight", 0.99)
    with pytest.raises(UserError, match="no such class"):
        operating.threshold(asked, "nine", 0.9)

    scored = figures.score(Path("none"), asked, site / "site", None)[1]
    found = operating.at_threshold(point, CLASSES, scored)["by_threshold"]
    actual, called = scored.labels == 0, scored.probabilities[:, 0] >= point.limit
    assert found["sensitivity"]["value"] == pytest.approx(recall_score(actual, called))
    assert found["specificity"]["value"] == pytest.approx(recall_score(~actual, ~called))
    assert found["precision"]["value"] == pytest.approx(precision_score(actual, called))
    assert (found["sensitivity"]["n"], found["specificity"]["n"]) == (60, 120)
    assert found["called"] == found["precision"]["n"] == called.sum()


@pytest.mark.fast
def test_the_promise_of_a_threshold_holds_on_average() -> None:
    """And the sensitivity given val varies as said: over 2,000 sets of 40 val images with uniform scores."""
    random = np.random.default_rng(0)
    sensitivities, ends = [], {}
    for _ in range(2000):
        known = random.random(40), np.zeros(40, np.int64), np.zeros(40)
        point = operating.threshold(Predictor("", ["a", "b"], 8, known, lambda _: (_, _)), "a", 0.9)
        sensitivities.append(1 - point.limit)  # of images whose probability is uniform, too
        ends = point.expected
    assert 0.9 - 0.003 < np.mean(sensitivities) < 0.9 + 1 / 41
    inside = np.mean([ends["low"] <= one <= ends["high"] for one in sensitivities])
    assert inside == pytest.approx(0.95, abs=0.015)


@pytest.mark.fast
def test_costs_of_two_classes_are_decided_by_a_threshold_that_val_chose(site: Path) -> None:
    asked = logistic(["eight", "one"])
    table = np.array([[0.0, 1.0], [8.0, 0.0]])
    limit = operating.cheapest_threshold(asked.known, table)
    scores, labels, _ = asked.known
    second = np.where(labels == 1, 1 - scores, scores)

    def cost(at: float) -> int:
        return int((confusion_matrix(labels, second >= at, labels=[0, 1]) * table).sum())

    assert cost(limit) == min(cost(at) for at in np.linspace(0, 1.001, 300))
    assert operating.cheapest_threshold(asked.known, np.array([[0.0, 1.0], [1.0, 0.0]])) > limit
    shutil.rmtree(site / "site/three")
    scored = figures.score(Path("none"), asked, site / "site", None)[1]
    found = operating.for_costs(asked, scored, table)
    decided = scored.probabilities[:, 1] >= limit
    assert found["by_cost"]["value"] == pytest.approx((confusion_matrix(scored.labels, decided) * table).sum() / 120)


@pytest.mark.fast
def test_costs_of_three_classes_are_decided_by_the_bayes_rule(site: Path) -> None:
    (site / "costs.yaml").write_text(
        "eight: {eight: 0, one: 20, three: 20}\none: {eight: 1, one: 0, three: 1}\nthree: {eight: 1, one: 1, three: 0}\n"
    )
    (site / "costs.csv").write_text("actual,eight,one,three\none,1,0,1\neight,0,20,20\nthree,1,1,0\n")
    table = operating.read_costs(site / "costs.yaml", CLASSES)
    assert (operating.read_costs(site / "costs.csv", CLASSES) == table).all()
    scored = figures.score(Path("none"), logistic(CLASSES), site / "site", None)[1]
    found = operating.for_costs(logistic(CLASSES), scored, table)
    by_hand = [
        min(range(3), key=lambda k: sum(p * table[i, k] for i, p in enumerate(row))) for row in scored.probabilities
    ]
    assert found["by_cost"]["value"] == pytest.approx(
        np.mean([table[i, k] for i, k in zip(scored.labels, by_hand, strict=True)])
    )
    assert found["by_cost"]["value"] < found["by_argmax"]["value"]
    assert found["verdict"] == "cheaper"
    ties = np.array([[0.1, 0.5, 0.4]])
    assert operating.least_expected_cost(ties, np.array([[0.0, 0, 1], [0, 0, 1], [1, 1, 0]])) == [1]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("actual,eight,one\n", "has no number for 'eight' decided as 'eight'"),
        ("right,eight\n1,2\n", "has no column actual"),
        (
            "actual,eight,one,three\neight,0,1,1\none,1,0,1\nthree,1,1,x\n",
            "has no number for 'three' decided as 'three'",
        ),
        ("actual,eight,one,three\neight,0,1,1\none,1,0,1\nthree,1,1,9\n", "costs less than the right one"),
        ("actual,eight,nine\neight,0,1\n", "has the class 'nine'"),
        ("actual,eight,one,three\neight,1,1,1\none,1,1,1\nthree,1,1,1\n", "all decisions cost the same"),
    ],
)
def test_mistakes_in_costs_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "costs.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        operating.read_costs(tmp_path / "costs.csv", CLASSES)


def test_beside_the_figures_on_test(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images of test give the figures of evaluate. Noisy ones of val are worse, beside the same figures of test."""
    monkeypatch.chdir(copy)
    model, evaluated = Path("models/finetune.pth"), read_json(copy / "metrics/evaluate.json")["finetune"]
    assert session.run(model, None, Choices(None, True, None, None, None)) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("accuracy", "macro_f1", "auroc", "ece", "unknown"):
        assert found["figures"][name]["new"] == pytest.approx(evaluated[name], abs=1e-5), name
    assert found["figures"]["coverage"]["new"] == pytest.approx(evaluated["sets"]["coverage"], abs=1e-5)
    assert found["no_test"] == texts.ON_TEST

    random = np.random.default_rng(0)
    for path in (copy / "data/split/train").glob("*/*"):
        noisy = tmp_path / "site" / path.parent.name / f"{path.stem}.png"
        noisy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32), dtype=np.uint8)).save(noisy)
    copies = list((copy / "data/split/val").glob("*/*"))[:2]
    for path in copies:
        (tmp_path / "site" / path.parent.name / path.name).write_bytes(path.read_bytes())
    assert session.run(model, tmp_path / "site", Choices(None, True, None, None, None)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["copies"] == {"train": 0, "val": 2, "test": 0}
    assert found["figures"]["accuracy"]["test"] == pytest.approx(evaluated["accuracy"], abs=1e-5)
    assert found["figures"]["unknown"]["verdict"] == "higher"
    assert found["figures"]["log_loss"]["test"]["value"] == pytest.approx(evaluated["log_loss"]["value"], abs=1e-5)
    manifest = (copy / "data/manifest.csv").read_text()
    (copy / "data/manifest.csv").write_text(manifest.replace(",test,", ",train,", 1))
    assert session.run(model, tmp_path / "site", Choices(None, True, None, None, None)) == 0
    assert "data/manifest.csv is of another split" in json.loads(capsys.readouterr().out)["no_test"]
    (copy / "metrics/evaluate.json").write_text("{}")
    assert session.run(model, tmp_path / "site", Choices(None, False, 0.5, found["classes"][0]["class"], None)) == 0
    assert "is not what dvc.lock says" in (text := capsys.readouterr().out)
    assert "### A sensitivity of 0.5" in text
