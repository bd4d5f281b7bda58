"""`darkroom labels`: flipped labels are found, the list is the same each time, and what cannot be judged is said."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from conftest import read_csv, run, set_params, stage, write_digits
from darkroom.data import folds as divide
from darkroom.data import manifest
from darkroom.labels import confident, features, folds, ranking, session
from darkroom.results import suspects
from darkroom.system.errors import UserError

FLIPPED = 12


def numbers(seed: int = 0, share: float = 0.08) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first 600 of scikit-learn's digits: pixels float32 (N, 64), labels of which a share is wrong, and which these are."""
    pixels, true = load_digits(return_X_y=True)
    random = np.random.default_rng(seed)
    wrong = random.random(600) < share
    labels = np.where(wrong, (true[:600] + random.integers(1, 10, 600)) % 10, true[:600])
    return (pixels[:600] / 64).astype(np.float32), labels, wrong


@pytest.mark.fast
def test_flags_and_scores_are_those_of_cleanlab() -> None:
    name = "needs cleanlab: pip install -r requirements/extras/cleanlab.txt"
    cleanlab_filter = pytest.importorskip("cleanlab.filter", reason=name)
    cleanlab_rank = pytest.importorskip("cleanlab.rank", reason=name)
    cleanlab_count = pytest.importorskip("cleanlab.count", reason=name)
    for seed in range(3):
        pixels, labels, _ = numbers(seed)
        found, can_judge = folds.probabilities(pixels, labels, np.arange(600))
        assert can_judge.all()
        theirs = cleanlab_filter.find_label_issues(labels, found, filter_by="low_self_confidence", n_jobs=1)
        ours = confident.suspects(found, labels)
        assert 20 < ours.sum() < 120
        assert np.array_equal(ours, theirs & (found.argmax(1) != labels))
        assert confident.count_wrong(found, labels) == cleanlab_count.num_label_issues(labels, found)
        assert np.array_equal(confident.own(found, labels), cleanlab_rank.get_label_quality_scores(labels, found))


@pytest.mark.fast
def test_the_probabilities_are_out_of_sample() -> None:
    """Labels that have nothing to do with the images are at chance. Exact copies do not help each other."""
    pixels = np.random.default_rng(0).normal(size=(200, 400)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, 200)
    twice, both = np.concatenate([pixels, pixels]), np.concatenate([labels, labels])
    contents = [str(index) for index in range(200)] * 2
    together = divide.units([contents, [""] * 400], [], folds.FOLDS)
    assert len(np.unique(together)) == 200
    apart, _ = folds.probabilities(twice, both, np.arange(400))
    joined, _ = folds.probabilities(twice, both, together)
    assert (joined.argmax(1) == both).mean() < 0.65 < 0.9 < (apart.argmax(1) == both).mean()


@pytest.mark.fast
def test_units_join_groups_copies_and_look_alikes_but_no_long_chains() -> None:
    names = [["a", "a", "b", "c", "d", *map(str, range(95))], ["", "", "", "x", "x", *[""] * 95]]
    assert divide.units(names, [], folds.FOLDS)[:5].tolist() == [0, 0, 1, 2, 2]
    assert divide.units(names, [(1, 2)], folds.FOLDS)[:5].tolist() == [0, 0, 0, 1, 1]
    chain = [(index, index + 1) for index in range(50)]
    assert divide.units(names, chain, folds.FOLDS).tolist() == divide.units(names, [], folds.FOLDS).tolist()


@pytest.mark.fast
def test_a_class_of_one_image_or_of_one_group_is_not_judged() -> None:
    pixels, labels, wrong = numbers()
    labels[wrong] = load_digits().target[:600][wrong]
    units = np.arange(600)
    labels[5], units[labels == 9] = 10, 9
    found = ranking.rank(*folds.probabilities(pixels, labels, units), labels)
    lost = (labels == 10) | (labels == 9)
    assert np.array_equal(found.can_judge, ~lost)
    assert (found.scores[lost] == 1).all()
    assert not found.suspects[lost].any()
    assert np.array_equal(found.suggested[lost], labels[lost])
    of_one_unit, can_judge = folds.probabilities(pixels, labels, np.zeros(600, int))
    assert not can_judge.any()
    assert not ranking.rank(of_one_unit, can_judge, labels).suspects.any()


@pytest.fixture
def flipped(folder: Path) -> list[str]:
    """Digits in the current folder, split; 12 of class 0 lie in the folder of another class. Their paths, which are hostile."""
    raw = folder / "data/raw"
    shutil.rmtree(raw)
    write_digits(raw, 60)
    names = []
    for index in range(FLIPPED):
        name = f"digit-{1 + index % 2}/| `x`, [{index}](http:) ünï.png"
        (raw / f"digit-0/{index:03d}.png").rename(raw / name)
        names.append(name)
    stage("split")
    return names


@pytest.fixture(autouse=True)
def no_git(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture `folder` is no repository, and fast tests start no process."""
    if "folder" in request.fixturenames:
        monkeypatch.setattr("darkroom.system.git.refuse_elsewhere", lambda: None)


def test_flipped_labels_are_found_and_the_list_has_the_same_bytes(
    flipped: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session.run(5)
    printed, first = capsys.readouterr().out, suspects.SUSPECTS.read_bytes()
    listed = suspects.read()
    rows = [row for row in manifest.read(None) if not row.reason]
    assert sorted(one[:4] for one in listed) == sorted((row.path, row.sha256, row.split, row.label) for row in rows)
    assert [one.score for one in listed] == sorted(one.score for one in listed)
    found = {one.path for one in listed[:FLIPPED]} & set(flipped)
    assert len(found) >= 0.8 * FLIPPED
    assert {one.suggested for one in listed if one.path in found} == {"digit-0"}
    suspected = [one for one in listed if one.suspect]
    assert len({one.path for one in suspected} & set(flipped)) >= 0.7 * FLIPPED
    assert all(len(one.neighbours) == suspects.NEIGHBOURS for one in suspected)
    assert not any(one.neighbours for one in listed if not one.suspect)
    assert all(one.path not in one.neighbours for one in suspected)
    table = [line for line in printed.splitlines() if line.startswith("|") and "digit-" in line and "0." in line]
    assert len(table) == 5
    assert f"{len(suspected)} of 180 labels look wrong" in printed

    monkeypatch.setattr("darkroom.networks.forward.predict", lambda *_: pytest.fail("features are kept"))
    session.run(5)
    assert suspects.SUSPECTS.read_bytes() == first


@pytest.mark.fast
def test_damaged_files_of_features_are_removed(tmp_path: Path) -> None:
    features._write(tmp_path, ["a", "b"], np.ones((2, 3), np.float32))
    (whole,) = tmp_path.glob("*.npz")
    content = whole.read_bytes()
    middle = len(content) // 2
    (tmp_path / "cut.npz").write_bytes(content[:middle])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "other.npz").write_bytes(content.replace(b"features.npy", b"futtures.npy"))
    features._write(tmp_path, ["c", "d"], np.ones((1, 3), np.float32))
    assert [names for names, _ in features._stored(tmp_path)] == [["a", "b"]]
    assert list(tmp_path.iterdir()) == [whole]


def test_only_new_images_are_computed_and_an_image_that_is_not_the_manifests_is_refused(folder: Path) -> None:
    stage("split")
    session.run(1)
    kept = set(features.FOLDER.glob("*/*.npz"))
    path = next((folder / "data/split/train/digit-0").iterdir())
    shutil.rmtree(features.FOLDER)
    path.unlink()
    path.write_bytes(b"another")
    with pytest.raises(UserError, match=r"another image than data/manifest.csv lists.*dvc repro split"):
        session.run(1)
    next((folder / "data/raw/digit-1").iterdir()).rename(folder / "data/raw/digit-2/moved.png")
    with pytest.raises(UserError, match=r"no longer has 'digit-1/.*\(1 images.*dvc repro split"):
        session.run(1)
    assert len(kept) == 1
    assert not list(features.FOLDER.glob("*/*.npz"))


def test_images_of_a_group_are_in_one_fold(folder: Path) -> None:
    set_params(folder, {"split": {"group": r"(\d+)\.png"}})
    stage("split")
    rows = [row for row in manifest.read(None) if not row.reason]
    units = session.units(rows)
    assert (
        len({row.group for row in rows})
        == len({(row.group, unit) for row, unit in zip(rows, units, strict=True)})
        == 30
    )


def test_the_command_in_a_project(digits: Path) -> None:
    before = run("git", "status", "--porcelain", cwd=digits)
    printed = run("darkroom", "labels", "--top", "3", cwd=digits)
    assert re.search(r"^## \d+ of 180 labels look wrong", printed, re.M)
    assert len(read_csv(digits / suspects.SUSPECTS)) == 180
    assert run("git", "status", "--porcelain", cwd=digits) == before
