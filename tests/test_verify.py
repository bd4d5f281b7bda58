"""`darkroom verify`: no difference on what rebuilds, and each kind of difference found and placed."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from conftest import clone_of, run
from darkroom.rebuild.difference import first_difference

# Runs at Python's start in every process: folders list their files backwards.
BACKWARDS = """
import os
class Entries:
    def __init__(self, entries): self.entries = iter(entries)
    def __iter__(self): return self
    def __next__(self): return next(self.entries)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def close(self): pass
def scandir(path=".", true=os.scandir):
    with true(path) as entries:
        return Entries(sorted(entries, key=lambda entry: entry.name, reverse=True))
os.scandir = scandir
os.listdir = lambda path=".", true=os.listdir: sorted(true(path), reverse=True)
"""


def test_a_committed_project_rebuilds_in_other_surroundings(rebuilt: Path, tmp_path: Path) -> None:
    """In another folder, by another user with another locale, time zone and hash seed, on one core, with symbolic links
    instead of copies, and on a file system that lists files backwards: all at once, for each alone would take as long.
    """
    (tmp_path / "sitecustomize.py").write_text(BACKWARDS)
    home = {"HOME": str(tmp_path), "USER": "another", "LOGNAME": "another"}
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if shutil.which("taskset") else []
    printed = run(*one_core, "darkroom", "verify", cwd=rebuilt, PYTHONPATH=str(tmp_path), **home)
    lock = yaml.safe_load((rebuilt / "dvc.lock").read_text())["stages"]
    outs = [out["path"] for stage in lock.values() for out in stage["outs"]]
    assert f"All {len(outs)} outs of a rebuild and dvc.lock are the same bytes." in printed
    assert all(f"{out} " in printed for out in outs)
    for name in lock:
        assert f"Running stage '{name}'" in printed
    assert run("git", "status", "--porcelain", cwd=rebuilt) == ""


def test_a_difference_is_placed_and_explained(rebuilt: Path, tmp_path: Path) -> None:
    """A commit whose metrics were improved by hand, and whose model is said to come from another machine."""
    clone = clone_of(rebuilt, tmp_path / "tampered")
    run("dvc", "remote", "add", "-q", "--local", "-d", "source", rebuilt / ".dvc/cache", cwd=clone)
    run("dvc", "pull", "-q", cwd=clone)
    metrics = clone / "metrics/train_scratch.json"
    tree = json.loads(metrics.read_text())
    true = tree["val_accuracy"]
    metrics.write_text(json.dumps({**tree, "val_accuracy": 1.0}))
    note = clone / "models/scratch.json"
    note.write_text(note.read_text().replace('"instructions": "AVX2"', '"instructions": "NEON"'))
    run("dvc", "commit", "-f", "-q", "train_scratch", cwd=clone)
    run("git", "commit", "-q", "-a", "-m", "Better", cwd=clone)

    printed = run("darkroom", "verify", cwd=clone, code=1)
    assert f"metrics/train_scratch.json   val_accuracy: 1.0 -> {true}" in printed
    assert "models/scratch.pth was made on another machine: instructions NEON there, AVX2 here." in printed
    assert sum("same" in line for line in printed.splitlines()) > 10


def test_a_changed_param_is_built_twice(rebuilt: Path) -> None:
    printed = run(
        "darkroom", "verify", "--set", "train_scratch.epochs=1", "--set", "train_scratch.lr=1e-2", cwd=rebuilt
    )
    assert "epoch   1/1" in printed
    assert "outs of two builds with train_scratch.epochs=1 train_scratch.lr=1e-2 are the same bytes." in printed


@pytest.mark.parametrize("change", ["no.key=1", "run", "run=1", "=1", "run.seed", "run.seed=[", "run.seed=\x01"])
def test_a_change_of_no_param_is_refused(change: str, rebuilt: Path, tmp_path: Path) -> None:
    printed = run("darkroom", "verify", "--set", change, cwd=rebuilt, code=2, TMPDIR=str(tmp_path))
    assert "say section.key=value" in printed
    assert len(printed.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_verified(rebuilt: Path, tmp_path: Path) -> None:
    assert "run from the project's top folder" in run("darkroom", "verify", cwd=rebuilt / "src", code=2)
    (tmp_path / "params.yaml").touch()
    assert "not a git repository" in run("darkroom", "verify", cwd=tmp_path, code=2)
    run("git", "init", "-q", cwd=tmp_path)
    assert "Git knows no revision 'HEAD'" in run("darkroom", "verify", cwd=tmp_path, code=2)


def checkpoint(value: float) -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {"about": {"classes": ["a"]}, "state_dict": {"one": torch.ones(2), "two": torch.full((3,), value)}}, buffer
    )
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "old", "new", "place"),
    [
        ("m.json", b'{"a": {"b": [1, 2]}}', b'{"a": {"b": [1, 3]}}', "a.b.1: 2 -> 3"),
        ("m.json", b'{"a": 1}', b'{"a": 1, "c": 2}', "c: nothing -> 2"),
        ("p.csv", b"x,y\n1,2\n3,4\n", b"x,y\n1,2\n3,5\n", "row 2, y: 4 -> 5"),
        ("p.csv", b"x,y\n1,2\n", b"x,y\n1,2\n3,5\n", "row 2, x: nothing -> 3"),
        ("p.csv", b"x\n1\n", b"x\r\n1\n", "byte 1 of 4 (5 now)"),
        ("m.pth", checkpoint(1), checkpoint(1.5), "two: 3 of 3 values, by up to 0.5"),
        ("m.pth", b"damaged", checkpoint(1), "byte 0 of 7"),
        ("a.png", b"abc", b"abd", "byte 2 of 3 (3 now)"),
    ],
)
def test_the_first_difference(name: str, old: bytes, new: bytes, place: str) -> None:
    assert place in first_difference(name, old, new)
