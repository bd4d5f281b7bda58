"""`darkroom verify`: no difference on what rebuilds, and each kind of difference found and placed."""

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from conftest import commit, darkroom, read_json, run, sign, write_digits
from darkroom.networks.calibration import Calibration, Space
from darkroom.rebuild import verify
from darkroom.rebuild.difference import first_difference
from darkroom.system import dvc, lock, rebuilt
from darkroom.system.errors import UserError

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


def test_a_commit_rebuilds_in_other_surroundings_but_for_what_is_forged(copy: Path, tmp_path: Path) -> None:
    """In another folder, by another user with another locale, time zone and hash seed, on one core, with symbolic links
    instead of copies, and on a file system that lists files backwards: all at once, for each alone would take as long.
    An accuracy was edited, and dvc.lock has its md5: DVC's own `dvc repro` would leave it.
    """
    metrics = copy / "metrics/evaluate.json"
    tree = read_json(metrics)
    true, tree["finetune"]["accuracy"]["value"] = tree["finetune"]["accuracy"]["value"], 0.99
    metrics.write_text(json.dumps(tree))
    run("dvc", "commit", "-f", "-q", "evaluate", cwd=copy)
    commit(copy, "Better")
    (tmp_path / "sitecustomize.py").write_text(BACKWARDS)
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if shutil.which("taskset") else []
    printed = run(
        *one_core,
        "darkroom",
        "verify",
        "--report",
        "report/rebuilt.json",
        cwd=copy,
        code=1,
        PYTHONPATH=str(tmp_path),
        HOME=str(tmp_path),
        USER="another",
        LOGNAME="another",
    )
    stages = lock.read(copy)
    outs = [out for stage in stages.values() for out in lock.outs(stage)]
    difference = f"finetune.accuracy.value: 0.99 -> {true}"
    assert re.search(rf"metrics/evaluate\.json +{re.escape(difference)}\n", printed)
    assert sum(line.endswith(" same") for line in printed.splitlines()) == len(outs) - 1
    assert all(f"{out} " in printed for out in outs)
    for name in stages:
        assert f"Running stage '{name}'" in printed
    assert run("git", "status", "--porcelain", cwd=copy) == ""

    darkroom("pr-report", "HEAD~1", "--rebuilt", "report/rebuilt.json", cwd=copy, code=1)
    text = (copy / "report/report.md").read_text()
    assert "**The gate is closed.** The rebuild gave other bytes than those committed: `evaluate`." in text
    assert f"    - `metrics/evaluate.json`: `{difference}`" in text
    assert "Gate: closed. Rebuilt: other bytes than those committed in `evaluate`.**" in text.splitlines()[0]
    assert "No stage has other inputs than in base" in text
    (line,) = re.findall("^- rebuilt, the same bytes as those committed: (.*)$", text, re.M)
    assert sorted(re.findall("`(.*?)`", line)) == sorted(stages.keys() - {"evaluate"})
    assert "not rebuilt" not in text


def test_a_commit_that_rebuilds(small: Path) -> None:
    """dvc.lock still has a stage that was removed from dvc.yaml, as DVC leaves it there."""
    stages = lock.read(small)
    removed = {"cmd": "true", "outs": [{"path": "data/raw.dvc", "hash": "md5", "md5": "0" * 32}]}
    with (small / "dvc.lock").open("a") as file:
        file.write(f"  removed: {json.dumps(removed)}\n")
    commit(small, "A stage was removed")
    printed = run("darkroom", "verify", "--report", "found.json", cwd=small)
    outs = {name: dict.fromkeys(lock.outs(stage), "") for name, stage in stages.items()}
    assert f"All {sum(map(len, outs.values()))} outs of a rebuild and dvc.lock are the same bytes." in printed
    found = rebuilt.read(small / "found.json")
    assert found.stages == outs
    assert found.commit == run("git", "rev-parse", "HEAD", cwd=small).strip()
    assert found.committed == found.rebuilt == rebuilt.digest(stages)
    assert found.seconds.keys() == stages.keys()
    assert all(f"{name} took {took:.1f} s and at most " in printed for name, took in found.seconds.items())


@pytest.mark.parametrize(
    ("stage", "out"),
    [({"frozen": True, "cmd": "echo {} > metrics/note.json"}, {}), ({"cmd": "true"}, {"persist": True})],
)
def test_what_no_stage_makes_is_not_called_rebuilt(stage: dict[str, Any], out: dict[str, bool], tmp_path: Path) -> None:
    """DVC takes a frozen stage and an out that persists as they are, even with --force."""
    write_digits(tmp_path / "data/raw", 1)
    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/note.json").write_text('{"accuracy": 0.99}')
    metrics = [{"metrics/note.json": {"cache": False, **out}}]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"note": {**stage, "metrics": metrics}}}))
    run("git", "init", "-q", cwd=tmp_path)
    sign(tmp_path)
    run("dvc", "init", "-q", cwd=tmp_path)
    run("dvc", "add", "-q", "data/raw", cwd=tmp_path)
    run("dvc", "commit", "-f", "-q", cwd=tmp_path)
    commit(tmp_path, "Forged")
    printed = run("darkroom", "verify", "--report", "found.json", cwd=tmp_path, code=2)
    assert "correct the cause that the stage prints" in printed
    assert not (tmp_path / "found.json").exists()


@pytest.mark.fast
def test_another_kind_of_machine_is_named(tmp_path: Path) -> None:
    """From the metrics whose md5 is in dvc.lock, and from no other file of that name."""
    builds = []
    for name, machine in (("old", "instructions NEON"), ("new", "instructions AVX2")):
        metrics = tmp_path / name / verify.METRICS
        metrics.parent.mkdir(parents=True)
        metrics.write_text(json.dumps({"machine": machine}))
        outs = [{"path": verify.METRICS, "md5": hashlib.md5(metrics.read_bytes()).hexdigest()}]
        builds.append(verify.Build(tmp_path / name, {"evaluate": {"outs": outs}}, tmp_path / "no cache"))
    (reason,) = verify.reasons(*builds)
    assert reason.endswith("another kind of machine: instructions NEON there; instructions AVX2 here.")
    (tmp_path / "old" / verify.METRICS).write_text("{}")
    assert not list(verify.reasons(*builds))


def test_a_changed_param_is_built_twice(small: Path) -> None:
    changes = ("--set", "train_scratch.epochs=1", "--set", "train_scratch.lr=1e-2")
    printed = run("darkroom", "verify", *changes, cwd=small)
    assert printed.count("epoch   1/1") == 2
    assert "outs of two builds with train_scratch.epochs=1 train_scratch.lr=1e-2 are the same bytes." in printed


@pytest.mark.parametrize("change", ["no.key=1", "run", "run=1", "=1", "run.seed", "run.seed=[", "run.seed=\x01"])
def test_a_change_of_no_param_is_refused(
    change: str, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    printed = darkroom("verify", "--set", change, cwd=measured, code=2)
    assert "say section.key=value" in printed
    assert len(printed.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_report_is_about_what_is_committed(measured: Path) -> None:
    printed = darkroom("verify", "--set", "run.seed=2", "--report", "found.json", cwd=measured, code=2)
    assert "leave one of the two out" in printed


@pytest.mark.fast
def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    build = verify.Build(tmp_path, {}, tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        verify._write(tmp_path / "file/found.json", "0" * 40, build, build, [])


def test_what_cannot_be_verified(measured: Path, tmp_path: Path) -> None:
    assert "run from the project's top folder" in darkroom("verify", cwd=measured / "src", code=2)
    (tmp_path / "params.yaml").touch()
    assert "not a git repository" in darkroom("verify", cwd=tmp_path, code=2)
    run("git", "init", "-q", cwd=tmp_path)
    assert "Git knows no revision 'HEAD'" in darkroom("verify", cwd=tmp_path, code=2)
    sign(tmp_path)
    for name in ("dvc.lock", "dvc.yaml"):
        (tmp_path / name).write_text("stages: {}")
    commit(tmp_path, "Without `dvc init`")
    assert f"DVC cannot be used in {tmp_path}: mend" in darkroom("verify", cwd=tmp_path, code=2)


def test_a_record_of_dvc_with_an_umlaut_is_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("git", "init", "-q", cwd=tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/größe.dvc").touch()
    run("git", "add", ".", cwd=tmp_path)
    calls: list[tuple[str, ...]] = []

    def succeed(*words: str) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr(dvc, "cache", lambda: tmp_path / "cache")
    verify._get_images(tmp_path, succeed)
    assert calls[-1] == ("pull", "--remote", "darkroom_verify", "data/größe.dvc")


def checkpoint(value: float, score: float = 0.1, name: str = "a") -> bytes:
    """A checkpoint with a calibration, in which a number is NaN."""
    space = Space(torch.ones(4), torch.ones(1, 4), torch.ones(2, 2))
    unlikeness = torch.tensor([1.0, torch.nan])
    calibration = Calibration(1.2, torch.tensor([score, 0.2]), torch.tensor([0, 0]), unlikeness, space)
    content = {
        "about": {"classes": [name]},
        "calibration": asdict(calibration),
        "state_dict": {"one": torch.ones(2), "two": torch.full((3,), float(value))},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "old", "new", "place"),
    [
        ("m.json", b'{"a": {"b": [1, 2]}}', b'{"a": {"b": [1, 3]}}', "a.b.1: 2 -> 3"),
        ("m.json", b'{"a": 1}', b'{"a": 1, "c": 2}', "c: nothing -> 2"),
        ("p.csv", b"x,y\n1,2\n3,4\n", b"x,y\n1,2\n3,5\n", "row 2, y: 4 -> 5"),
        ("p.csv", b"x,y\n1,2\n", b"x,y\n1,2\n3,5\n", "row 2, x: nothing -> 3"),
        ("p.csv", b"x\n1\n", b"x\r\n1\n", "byte 1 of 4 (5 now)"),
        ("m.pth", checkpoint(1), checkpoint(1.5), "two: 3 of 3 values, by up to 0.5"),
        ("m.pth", checkpoint(1), checkpoint(1.5, 0.3), "two: 3 of 3 values, by up to 0.5"),
        ("m.pth", checkpoint(1), checkpoint(1, 0.3), "calibration.scores: 1 of 2 values, by up to 0.2"),
        ("m.pth", checkpoint(1), checkpoint(1, 0.3, "b"), "about.classes.0: a -> b"),
        ("m.pth", b"damaged", checkpoint(1), "byte 0 of 7"),
        ("a.png", b"abc", b"abd", "byte 2 of 3 (3 now)"),
    ],
)
def test_the_first_difference(name: str, old: bytes, new: bytes, place: str) -> None:
    assert place in first_difference(name, old, new)
