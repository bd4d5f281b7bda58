"""The commands of docs/how-to/go-back.md and share.md, each in the situation that it is for."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from conftest import ROOT, clone_of, commit, darkroom, run, set_params, write_digits

pytestmark = pytest.mark.product


def commands(page: str, heading: str) -> str:
    """The commands under a heading of a page in docs/how-to, as a script."""
    text = (ROOT / "docs/how-to" / page).read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```console\n(.*?)```", section, re.S))


def follow(page: str, heading: str, project: Path) -> str:
    """Run the commands under a heading in `project`."""
    return run("bash", "-ec", commands(page, heading), cwd=project)


def changed(project: Path) -> str:
    return run("git", "status", "--porcelain", cwd=project)


def model(project: Path) -> bytes:
    return (project / "models/scratch.pth").read_bytes()


def test_after_an_experiment(small: Path) -> None:
    before = model(small)
    run("dvc", "exp", "run", "-S", "train_scratch.lr=0.02", cwd=small)
    assert model(small) != before
    follow("go-back.md", "After an experiment", small)
    assert model(small) == before
    assert changed(small) == ""
    assert "Running stage" not in run("dvc", "repro", cwd=small)


def test_after_a_run_that_failed(small: Path) -> None:
    """The change that made it fail stays."""
    set_params(small, {"split": {"ratio": {"train": 1, "val": 0, "test": 0}}})
    printed = run("dvc", "repro", cwd=small, code=255)
    assert " D data/manifest.csv" in changed(small)
    way = "git checkout -- $(git ls-files --deleted) && dvc checkout split"
    assert f"DVC has removed the results of the last split: `dvc repro` makes new ones, and `{way}`" in printed
    assert commands("go-back.md", "After a run that failed").splitlines() == way.split(" && ")
    follow("go-back.md", "After a run that failed", small)
    assert changed(small) == " M params.yaml\n"
    assert (small / "data/split/train").is_dir()


def test_the_cache_is_lost(small: Path) -> None:
    shutil.rmtree(small / ".dvc/cache")
    follow("go-back.md", "DVC's cache is lost", small)
    assert "Running stage" not in run("dvc", "repro", cwd=small)
    assert changed(small) == ""


def test_make_refills_a_lost_cache(small: Path) -> None:
    """But not with a model that is not that of dvc.lock. (The last words are about the results that three stages cannot have.)"""
    shutil.rmtree(small / ".dvc/cache")
    printed = run("darkroom", "run", cwd=small, code=2)
    assert "`dvc commit` has put them back" in printed
    assert "Running stage" not in printed
    assert changed(small) == ""

    before = model(small)
    shutil.rmtree(small / ".dvc/cache")
    (small / "models/scratch.pth").write_bytes(b"forged")
    assert "has put them back" not in darkroom("run", cwd=small, code=2)
    assert model(small) == before


def test_the_environment_is_not_active(small: Path) -> None:
    """`python3` in dvc.yaml is then one without packages. That of .venv is used; a sentence says if there is none."""
    bare = small / ".darkroom/bare"
    run(sys.executable, "-m", "venv", "--without-pip", bare, cwd=small)
    (bare / "bin/python").unlink()  # as on Debian, where there is python3 alone
    path = f"{bare / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = (sys.executable, "-m", "dvc", "repro", "--force", "split")
    printed = run(*command, cwd=small, code=255, PATH=path)
    assert "lacks the packages: run `make setup`, then `source .venv/bin/activate`" in printed
    assert "Traceback" not in printed

    (small / ".venv/bin").mkdir(parents=True)
    (small / ".venv/bin/python").symlink_to(sys.executable)
    (small / ".venv/pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (small / ".venv/lib").symlink_to(Path(sys.prefix) / "lib")
    follow("go-back.md", "After a run that failed", small)
    assert "split took" in run(*command, cwd=small, PATH=path)
    assert changed(small) == ""


def test_replace_the_images_in_a_fresh_clone(small: Path, tmp_path: Path) -> None:
    """And in a project that has run."""
    write_digits(tmp_path / "mine", 50)
    script = commands("own-images.md", "Put them into data/raw").partition("darkroom run")[0]
    for project in (clone_of(small, tmp_path / "a clone"), small):
        run("bash", "-ec", script.replace("/path/to/your/images", "../mine"), cwd=project)
        assert "nfiles: 150" in (project / "data/raw.dvc").read_text()


def test_a_team_mate_gets_all_results_without_running_a_stage(small: Path, tmp_path: Path) -> None:
    remote = tmp_path / "a shared folder"
    once = commands("share.md", "Once: name the folder").replace("/path/to/shared/folder", f"'{remote}'")
    push = commands("share.md", "After each run: push").replace("git push\n", "")
    pull = commands("share.md", "A team-mate: clone and pull").splitlines()[2]
    assert pull.startswith("dvc pull")
    run("bash", "-ec", once + push, cwd=small)

    mate = clone_of(small, tmp_path / "a team-mate's")
    run(*pull.split(), cwd=mate)
    assert model(mate) == model(small)
    assert "Running stage" not in run("dvc", "repro", cwd=mate)
    assert changed(mate) == ""

    # The team-mate's new result comes back the same way, with the run that made it.
    set_params(mate, {"train_scratch": {"lr": 0.02}})
    run("dvc", "repro", cwd=mate)
    commit(mate, "Another learning rate")
    run("bash", "-ec", push, cwd=mate)
    run("git", "pull", "-q", mate, "main", cwd=small)
    run(*pull.split(), cwd=small)
    assert model(mate) == model(small)
    assert "Running stage" not in run("dvc", "repro", cwd=small)


def test_make_gets_the_images_and_models_of_a_team(small: Path, tmp_path: Path) -> None:
    """Without `dvc pull`. (The last words are about the results that three stages cannot have.)"""
    run("dvc", "remote", "add", "-d", "team", tmp_path / "remote", cwd=small)
    commit(small, "A remote")
    run("dvc", "push", "--run-cache", cwd=small)
    mate = clone_of(small, tmp_path / "a team-mate's")
    assert "Running stage" not in run("darkroom", "run", cwd=mate, code=2)
    assert model(mate) == model(small)


def test_compare_says_how_to_leave_an_experiment(copy: Path) -> None:
    way = "`git checkout -- . && dvc checkout` goes back to the last commit"
    assert way not in darkroom("compare", "HEAD", cwd=copy)
    with (copy / "dvc.lock").open("a") as stream:
        stream.write("\n")
    assert way in darkroom("compare", "HEAD", cwd=copy)
