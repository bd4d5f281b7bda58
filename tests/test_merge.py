"""Two branches that were both trained, merged by `darkroom merge` and docs/how-to/merging.md."""

import shutil
from pathlib import Path

import pytest

from conftest import commit, darkroom, run, set_params, write_digits
from test_go_back import commands

pytestmark = pytest.mark.product


def branch(project: Path, name: str, changes: dict[str, dict[str, object]]) -> None:
    """A branch from main with other params and the results of these."""
    run("git", "switch", "-q", "main", cwd=project)
    run("git", "switch", "-q", "-c", name, cwd=project)
    run("dvc", "checkout", "-q", cwd=project)
    set_params(project, changes)
    run("dvc", "repro", "-q", cwd=project)
    darkroom("card", cwd=project)
    commit(project, name)


def test_the_results_of_a_merge_are_made_anew(one_model: Path) -> None:
    """Git finds conflicts in the results; after the command the stages have nothing to do, and no result is of one side alone."""
    branch(one_model, "theirs", {"train_scratch": {"weight_decay": 0.001}})
    branch(one_model, "ours", {"train_scratch": {"batch_size": 8}})
    (one_model / ".gitignore").write_text("changed\n")
    assert "changes that are not committed (.gitignore)" in darkroom("merge", "theirs", cwd=one_model, code=2)
    run("git", "checkout", "-q", "--", ".gitignore", cwd=one_model)
    printed = run("darkroom", "merge", "theirs", cwd=one_model)
    assert "Running stage 'train_scratch'" in printed
    assert "Running stage 'stats'" not in printed
    run("git", "commit", "-q", "--no-edit", cwd=one_model)
    assert run("git", "status", "--porcelain", cwd=one_model) == ""
    assert run("git", "log", "-1", "--format=%p", cwd=one_model).count(" ") == 1
    assert "Running stage" not in run("dvc", "repro", cwd=one_model)
    for side in ("HEAD^1", "HEAD^2"):
        made = run("git", "diff", "--stat", side, "--", "metrics/evaluate.json", "models/scratch.md", cwd=one_model)
        assert made.count("|") == 2
    assert "Already up to date" in run("git", "merge", "theirs", cwd=one_model)


def test_what_people_wrote_is_theirs_to_mend(one_model: Path) -> None:
    assert "no merge is under way" in darkroom("merge", cwd=one_model, code=2)
    branch(one_model, "theirs", {"evaluate": {"bins": 10}})
    branch(one_model, "ours", {"evaluate": {"bins": 12}})
    before = (one_model / "metrics/evaluate.json").read_text()
    printed = darkroom("merge", "theirs", cwd=one_model, code=2)
    assert "in conflict: params.yaml: mend" in printed
    assert (one_model / "metrics/evaluate.json").read_text() == before
    assert "a merge is under way" in darkroom("merge", "theirs", cwd=one_model, code=2)
    run("git", "checkout", "--theirs", "params.yaml", cwd=one_model)
    run("git", "add", "params.yaml", cwd=one_model)
    darkroom("merge", cwd=one_model)
    run("git", "commit", "-q", "--no-edit", cwd=one_model)
    assert run("git", "diff", "--stat", "theirs", cwd=one_model) == ""


def test_images_of_both_branches(small: Path) -> None:
    """Each side adds images of its own."""
    for name, digits in (("theirs", range(60, 65)), ("ours", range(65, 70))):
        run("git", "switch", "-q", "main", cwd=small)
        run("git", "switch", "-q", "-c", name, cwd=small)
        run("dvc", "checkout", "-q", cwd=small)
        write_digits(small / "more", 70)
        for number, path in enumerate(sorted(path for path in (small / "more").rglob("*.png"))):
            if number % 70 in digits:
                shutil.copy(path, small / "data/raw" / path.parent.name / f"{name}-{path.name}")
        shutil.rmtree(small / "more")
        run("dvc", "add", "-q", "data/raw", cwd=small)
        run("dvc", "repro", "-q", cwd=small)
        commit(small, name)
    assert "in conflict: data/raw.dvc" in darkroom("merge", "theirs", cwd=small, code=2)
    begun, added = commands("merging.md", "Both branches changed the images").split("dvc add data/raw\n")
    run("bash", "-ec", f"{begun}git add data/raw.dvc", cwd=small)  # as if `dvc add` had failed
    assert "are of neither side, and the merge would remove them" in darkroom("merge", cwd=small, code=2)
    run("bash", "-ec", "dvc add -q data/raw\n" + added.replace("darkroom merge\n", ""), cwd=small)
    files = [path.name for path in (small / "data/raw").rglob("*.png")]
    assert {name.split("-")[0] for name in files} >= {"theirs", "ours"}
    assert "data/raw.dvc" not in run("git", "diff", "--name-only", "--diff-filter=U", cwd=small)
