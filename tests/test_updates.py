"""The reason why this project exists: a data set that changes, told on real images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import PARAMS, commit, darkroom, json_in, read_csv, read_json, run, write_cells
from darkroom.comparison.look_alikes import LISTED
from darkroom.data import assignment
from darkroom.system import files

TRAINING = ("Running stage 'train_scratch'", "Running stage 'train_finetune'")


@pytest.fixture
def project(copy: Path) -> Path:
    return copy


def manifest(project: Path) -> dict[str, tuple[str, str]]:
    """path -> (split, sha256)"""
    return {row["path"]: (row["split"], row["sha256"]) for row in read_csv(project / "data/manifest.csv")}


def results(project: Path) -> dict[str, bytes]:
    """Every out, by path."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for folder in ("data/split", "metrics", "models", "plots")
        for path in sorted((project / folder).rglob("*"))
        if path.is_file()
    }


def write_sibling(original: Path) -> Path:
    """Write a copy whose first pixels are changed by one level, as many as it takes for its hash to put it into train."""
    choices, sibling = PARAMS["split"], original.with_name(f"{original.stem}-sibling.png")
    ratio = assignment.Ratio(**choices["ratio"])
    pixels = np.array(Image.open(original))
    for pixel in range(pixels.shape[1]):
        pixels[0, pixel] ^= 1
        Image.fromarray(pixels).save(sibling)
        image = assignment.Image("", "", "", files.sha256(sibling.read_bytes()), b"")
        if assignment.by_hash(image, ratio, choices["salt"]) == "train":
            return sibling
    raise AssertionError("no sibling falls to train")


def with_look_alike(project: Path) -> set[str]:
    """The test images that have a look-alike in train."""
    rows = read_csv(project / "plots/near_duplicates.csv")
    return {row["second"] for row in rows if row["sides"] == "train-test"}


def right_answers(project: Path) -> dict[str, bool]:
    """Path of each test image -> whether the model from scratch is right."""
    rows = read_csv(project / "plots/predictions.csv")
    return {row["path"]: row["predicted"] == row["actual"] for row in rows if row["model"] == "scratch"}


def check_look_alikes(
    project: Path, siblings: dict[str, str], had_one: set[str], answers: tuple[dict[str, bool], dict[str, bool]]
) -> None:
    """`compare`, its page and the report give the look-alikes that came, and the accuracies without them.

    Args:
        project: The project after the update.
        siblings: Path of a test image -> path of its sibling in train.
        had_one: The test images that had a look-alike before.
        answers: What `right_answers` returns before and after.
    """
    has_one = with_look_alike(project)
    found = json_in(darkroom("compare", "HEAD", "--json", cwd=project))["look_alikes"]
    assert siblings.items() <= {pair["test"]: pair["train"] for pair in found["new"]}.items()
    assert (found["images"]["base"], found["images"]["head"]) == (len(had_one), len(has_one))
    assert found["pairs"]["head"] == read_json(project / "metrics/split.json")["near_duplicates"]["train-test"]
    (line,) = [one for one in found["accuracies"] if (one["model"], one["metric"]) == ("scratch", "accuracy")]
    for side, right in zip(("base", "head"), answers, strict=True):
        shared = {path: right[path] for path in answers[0]}
        assert line[side] == np.mean([shared[path] for path in shared.keys() - (had_one | has_one)])
        assert line[f"{side}_right"] == sum(shared[path] for path in shared.keys() & (had_one | has_one))

    darkroom("pr-report", "HEAD", cwd=project)
    darkroom("compare", "HEAD", "--html", "page.html", cwd=project)
    for text in ((project / "report/report.md").read_text(), (project / "page.html").read_text()):
        assert f"In base: {len(had_one)} of {len(answers[0])} test images" in text
        assert f"In head: {len(has_one)} of {len(answers[1])} test images" in text
        assert f"New in head ({len(found['new'])}): " in text
        assert f"and {len(found['new']) - LISTED} more" in text
    (project / "page.html").unlink()


def test_the_data_set_is_updated_at_the_last_moment(project: Path, tmp_path: Path) -> None:
    before, first, answers = manifest(project), results(project), right_answers(project)
    raw = project / "data/raw"
    write_cells(tmp_path / "more", 70)
    new = [
        path
        for path in sorted((tmp_path / "more").rglob("*.png"))
        if not (raw / path.relative_to(tmp_path / "more")).exists()
    ]
    for path in new[:26]:
        shutil.copy(path, raw / path.relative_to(tmp_path / "more"))
    (raw / "mono-defective/broken.png").write_bytes(new[30].read_bytes()[:3000])
    (raw / "mono-defective/empty.png").touch()
    tested = next(path for path, (side, _) in before.items() if side == "test")
    shutil.copy(raw / tested, raw / tested.replace(".png", "-copy.png"))
    relabelled = next(
        path for path, (side, _) in before.items() if side == "train" and path.startswith("poly-defective")
    )
    (raw / relabelled).rename(raw / relabelled.replace("defective", "functional"))

    had_one = with_look_alike(project)
    originals = [path for path, (side, _) in before.items() if side == "test" and path not in had_one][:7]
    siblings = {path: write_sibling(raw / path).relative_to(raw).as_posix() for path in originals}

    run("dvc", "add", "-q", "data/raw", cwd=project)
    printed = run("dvc", "repro", cwd=project)
    after = manifest(project)
    assert all(after[path] == where for path, where in before.items() if path != relabelled)
    assert after[relabelled.replace("defective", "functional")][0] == "train"
    assert after[tested.replace(".png", "-copy.png")][0] == "test"
    assert "left out: 'data/raw/mono-defective/broken.png' cannot be decoded" in printed
    assert {after["mono-defective/broken.png"][0], after["mono-defective/empty.png"][0]} == {"left out"}

    changes = json.loads(run("dvc", "metrics", "diff", "--json", cwd=project))["metrics/split.json"]
    assert changes["left_out"]["new"] == 2
    words = darkroom("data-diff", "--picture", "changes.png", cwd=project)
    assert "**added** (34)" in words
    assert "**relabelled** (1)" in words
    assert "**left out** (2)" in words
    assert "moved" not in words
    assert (project / "changes.png").stat().st_size > 10_000
    (project / "changes.png").unlink()
    check_look_alikes(project, siblings, had_one, (answers, right_answers(project)))

    run("git", "stash", "-q", "-u", cwd=project)
    run("dvc", "checkout", "-q", cwd=project)
    printed = run("dvc", "repro", cwd=project)
    assert not any(line in printed for line in TRAINING)
    assert results(project) == first
    assert run("git", "status", "--porcelain", cwd=project) == ""


def test_only_what_must_runs_again(project: Path) -> None:
    """A test image gone: no training. A file that was left out gone: nothing after split."""
    gone = next(path for path, (side, _) in manifest(project).items() if side == "test")
    (project / "data/raw" / gone).unlink()
    (project / "data/raw/mono-defective/notes.txt").write_text("no image")
    run("dvc", "add", "-q", "data/raw", cwd=project)
    printed = run("dvc", "repro", cwd=project)
    assert not any(line in printed for line in TRAINING)
    assert all(f"Running stage '{name}'" in printed for name in ("split", "evaluate", "tsne"))

    (project / "data/raw/mono-defective/notes.txt").unlink()
    run("dvc", "add", "-q", "data/raw", cwd=project)
    printed = run("dvc", "repro", cwd=project)
    assert "Running stage 'split'" in printed
    assert printed.count("Running stage") == 1


def test_data_diff_refuses_what_it_cannot_read(project: Path) -> None:
    assert "Git knows no revision 'nowhere'" in darkroom("data-diff", "nowhere", cwd=project, code=2)
    assert "from before the first" in darkroom("data-diff", "HEAD~1", cwd=project, code=2)


def test_data_diff_refuses_a_revision_whose_images_were_not_split(project: Path) -> None:
    """Its manifest would say that no image differs."""
    (project / "data/raw" / next(iter(manifest(project)))).unlink()
    run("dvc", "add", "-q", "data/raw", cwd=project)
    commit(project, "An image less, without a run")
    assert "committed without a run of split" in darkroom("data-diff", "HEAD~1", "HEAD", cwd=project, code=2)
    assert "**removed** (1)" in darkroom("data-diff", "HEAD~1", cwd=project)


def test_fillers_are_pinned(digits: Path) -> None:
    """A class shrinks to three images. `darkroom pin` moves none of them, so that nothing after split runs again."""
    for path in sorted((digits / "data/raw/digit-1").iterdir())[3:]:
        path.unlink()
    run("dvc", "add", "-q", "data/raw", cwd=digits)
    assert "not where their hash says, because their class is small" in run("dvc", "repro", "stats", cwd=digits)
    before = manifest(digits)
    assert {side for path, (side, _) in before.items() if path.startswith("digit-1")} == {"train", "val", "test"}
    assert read_json(digits / "metrics/split.json")["fillers_not_pinned"] > 0
    darkroom("pin", cwd=digits)
    assert "0 more in data/sides.csv" in darkroom("pin", cwd=digits)
    printed = run("dvc", "repro", "stats", cwd=digits)
    assert "Running stage 'split'" in printed
    assert "Running stage 'stats'" not in printed
    assert manifest(digits) == before
    assert read_json(digits / "metrics/split.json")["fillers_not_pinned"] == 0


def test_a_cache_outside_of_the_project_that_many_share(digits: Path, tmp_path: Path) -> None:
    """DVC's set-up for large data: data/raw holds links to a folder elsewhere."""
    before = (digits / "data/manifest.csv").read_bytes()
    run("dvc", "cache", "dir", "--local", tmp_path / "shared", cwd=digits)
    run("dvc", "config", "--local", "cache.type", "symlink", cwd=digits)
    run("dvc", "commit", "-q", "-f", "data/raw.dvc", cwd=digits)
    run("dvc", "checkout", "-q", "--relink", "data/raw.dvc", cwd=digits)
    shutil.rmtree(digits / ".dvc/cache")
    raw = digits / "data/raw/digit-0/000.png"
    assert raw.readlink().is_relative_to(tmp_path / "shared")
    assert "left out" not in run("dvc", "repro", "-f", "split", cwd=digits)
    assert (digits / "data/manifest.csv").read_bytes() == before
    assert raw.is_symlink()
    (digits / "data/raw/digit-0/stray.png").symlink_to("/etc/hostname")
    assert "digit-0/stray.png' is a link out of the data set" in run("darkroom", "split", cwd=digits)
