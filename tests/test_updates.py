"""The reason why this project exists: a data set that changes, told on real images."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import darkroom, read_csv, run, write_cells

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


def test_the_data_set_is_updated_at_the_last_moment(project: Path, tmp_path: Path) -> None:
    before, first = manifest(project), results(project)
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
    words = run("darkroom", "data-diff", "--picture", "changes.png", cwd=project)
    assert "**added** (27)" in words
    assert "**relabelled** (1)" in words
    assert "**left out** (2)" in words
    assert "moved" not in words
    assert (project / "changes.png").stat().st_size > 10_000
    (project / "changes.png").unlink()

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
