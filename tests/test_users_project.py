"""A project with other images and other params than the product: the tests that its team keeps pass there."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import PARAMS, ROOT, pinned, run, write_digits
from darkroom.system.trees import leaves

pytestmark = pytest.mark.product

# What a user's project has, besides its data and results. The documentation is not in it: its team may have removed it.
KEPT = [
    *(
        "src",
        "tests",
        "requirements",
        "weights",
        ".dvc/plots",
        ".dvc/.gitignore",
        ".gitignore",
        ".gitattributes",
        ".github/workflows",
    ),
    *("params.yaml", "dvc.yaml", "pyproject.toml", "requirements.txt"),
]
# Files whose tests read no params, and trainings of seconds, which read the same params as those that run.
LEFT_OUT = [
    *("test_networks", "test_evaluation", "test_paired", "test_over_seeds", "test_determinism"),
    *("both_optimizers", "where_pixels", "bfloat16_rebuilds", "a_channel_that_never"),
]
OF_DATA = ["bad_images", "same_bytes"]  # of test_data, which takes long, these run: they would see the params of split
STILL = {"flip_horizontal": False, "flip_vertical": False}
# Each would make a test fail that took it from the project's params.yaml.
CHANGES: dict[str, Any] = {
    "run": {"seed": 7, "threads": 2, "mode": "native", "precision": "bfloat16"},
    "images": {"resolution": 512, "memory": 0},
    "split": {
        "ratio": {"train": 0.5, "val": 0.25, "test": 0.25},
        "salt": "clinic",
        "group": r"^[^/]+/(patient\d+)_",
        "max_megapixels": 0.0001,
        "on_bad_image": "fail",
        "on_conflict": "fail",
    },
    "train_scratch": {"epochs": 500, "optimizer": "adamw", "lr": 0.001, "width": 64, "patience": 1, "augment": STILL},
    "train_finetune": {"backbone": "resnet18", "pooling": "average", "epochs": 500, "dropout": 0.9, "augment": STILL},
    "evaluate": {"bins": 3, "resamples": 200, "merge": None},
    "tsne": {"perplexity": 10, "max_images": 20},
}


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A project of digits with a short README, changed params, and results of none of its stages yet."""
    project = tmp_path / "a team's"
    for name in KEPT:
        target = project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(ROOT / name, target)
    (project / "README.md").write_text("# Digits\n")
    tree = pinned(yaml.safe_load((project / "params.yaml").read_text()), CHANGES)
    (project / "params.yaml").write_text(yaml.safe_dump(tree))
    (project / ".dvc/config").write_text("[core]\n    remote = team\n['remote \"team\"']\n    url = /nowhere\n")
    write_digits(project / "data/raw", 20)
    (project / "data/groups.csv").write_text("path,group\ndigit-0/000.png,anna\n")
    (project / "data/sides.csv").write_text("unit,side,path\nanna,val,digit-0/000.png\n")
    (project / "data/raw.dvc").write_text("outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: raw\n")
    return project


def test_the_tests_that_a_team_keeps_pass(team: Path, tmp_path: Path) -> None:
    """Those that are marked `fast`, but for `LEFT_OUT` and what `OF_DATA` does not name. All are collected."""
    chosen = " and ".join(f"not {name}" for name in LEFT_OUT) + f" and (not test_data or {' or '.join(OF_DATA)})"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "fast", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-k", chosen, f"--basetemp={tmp_path / 'temp'}"]
    printed = run(*command, cwd=team, PYTHONPATH=str(team / "src"))
    passed, skipped = (int(number) for number in re.findall(r"(\d+) passed, (\d+) skipped", printed)[0])
    assert passed > 200
    assert 0 < skipped < 20
    assert "data/raw.dvc does not track the demo here" in printed


@pytest.mark.fast
def test_every_param_is_pinned_for_the_tests() -> None:
    """A key that is missing in tests/params.yaml would have the value of the project."""
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {key for key, _ in leaves(PARAMS)} == {key for key, _ in leaves(committed)}
