"""Real images and a real Git + DVC project in a temporary folder."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from darkroom.system import determinism
from darkroom.system.params import Run

RUN = Run(seed=1, threads=1, mode="portable", device="cpu", precision="float32")
determinism.prepare(RUN)  # before anything imports torch or NumPy

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from darkroom.data import demo  # noqa: E402

ROOT = Path(__file__).parent.parent
TRAVELS = [
    "dvc.yaml",
    "params.yaml",
    "src",
    ".dvc/config",
    ".dvc/plots",
    ".dvc/.gitignore",
    ".gitignore",
    "weights",
    "requirements",
    "data/groups.csv",
]

# Small enough for seconds, and otherwise the params as committed.
SMALL = {
    "run": {"threads": 1},
    "images": {"resolution": 32},
    "train_scratch": {"epochs": 3, "batch_size": 16, "width": 4, "blocks": 3},
    "train_finetune": {"epochs": 1, "batch_size": 16},
    "evaluate": {"resamples": 100},
    "tsne": {"perplexity": 5},
}


def surroundings(**extra: str) -> dict[str, str]:
    """Variables for a command: `python` and `dvc` are those that run the tests."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200", **extra}


def run(*command: str | Path, cwd: Path, code: int = 0, **extra: str) -> str:
    """What `command` prints, both streams; it must end with `code`. `extra` are variables of its environment."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=surroundings(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def wait_until_none(left: Callable[[], list[Path]]) -> None:
    """Wait, for 30 seconds at most, until `left` finds none: a busy machine is slow to end processes."""
    patience = time.monotonic() + 30
    while found := left():
        assert time.monotonic() < patience, found
        time.sleep(0.1)


def set_params(project: Path, changes: dict[str, dict[str, object]]) -> None:
    """Change keys of params.yaml."""
    path = project / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    for section, keys in changes.items():
        tree[section].update(keys)
    path.write_text(yaml.safe_dump(tree))


def vouch(project: Path, changes: dict[str, dict[str, object]] | None = None) -> None:
    """Have dvc.lock say that what lies in `project` was built like this, with `changes` of keys of params.yaml."""
    set_params(project, changes or {})
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    for stage in lock["stages"].values():
        for section, keys in (changes or {}).items():
            if section in (used := stage.get("params", {}).get("params.yaml", {})):
                used[section].update(keys)
        for file in [*stage.get("deps", []), *stage["outs"]]:
            if (project / file["path"]).is_file():
                file["md5"] = hashlib.md5((project / file["path"]).read_bytes()).hexdigest()
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))


def write_digits(folder: Path, each: int, classes: int = 3) -> None:
    """scikit-learn's scanned digits as PNG files, `each` a class."""
    digits = load_digits()
    for label in range(classes):
        (folder / f"digit-{label}").mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(digits.images[digits.target == label][:each]):
            pixels = (picture * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"digit-{label}" / f"{index:03d}.png")


def write_cells(folder: Path, each: int) -> None:
    """A slice of the demo, `each` a class."""
    demo.lay_out(folder)
    for kind in folder.iterdir():
        for path in sorted(kind.iterdir())[each:]:
            path.unlink()


def copy_project(target: Path) -> None:
    """The project's own files, without data and results."""
    for name in TRAVELS:
        source = ROOT / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, target / name)


def clone_of(project: Path, target: Path) -> Path:
    """A Git clone of `project` in which one can commit, without data and without DVC's cache."""
    run("git", "clone", "-q", project, target, cwd=project)
    sign(target)
    return target


def sign(project: Path) -> None:
    """Give commits an author."""
    run("git", "config", "user.email", "tests@example.org", cwd=project)
    run("git", "config", "user.name", "Tests", cwd=project)


def make_project(target: Path, write_raw: Callable[[Path], None]) -> Path:
    """A committed Git + DVC project with small params and its own images, in a folder with a space in its name."""
    copy_project(target)
    set_params(target, SMALL)
    write_raw(target / "data" / "raw")
    run("git", "init", "-q", "-b", "main", cwd=target)
    sign(target)
    run("dvc", "add", "-q", "data/raw", cwd=target)
    run("git", "add", "-A", cwd=target)
    run("git", "commit", "-q", "-m", "A small project", cwd=target)
    return target


@pytest.fixture(scope="session")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of solar cells whose whole DAG was run and committed. Tests leave it as it is."""
    project = make_project(tmp_path_factory.mktemp("whole") / "solar cells", lambda raw: write_cells(raw, 60))
    run("dvc", "repro", cwd=project)
    run("git", "add", "-A", cwd=project)
    run("git", "commit", "-q", "-m", "Results", cwd=project)
    return project


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the project's params and a few digits, without Git and DVC, as the current one: for single stages."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    set_params(tmp_path, SMALL)
    write_digits(tmp_path / "data" / "raw", 30)
    monkeypatch.chdir(tmp_path)
    return tmp_path
