"""What `make setup` checks, and what it installs with."""

import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, run

CHECK: dict[str, Any] = runpy.run_path(str(ROOT / "requirements/check.py"))


def pins(path: Path) -> dict[str, str]:
    """Package -> version, of a file of requirements and those that it includes. Names as the index spells them."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            found |= pins(path.parent / line[3:])
        elif pin := re.match(r"([\w.-]+)==([\w.]+)", line):
            found[re.sub(r"[-_.]+", "-", pin[1]).lower()] = pin[2]
    return found


@pytest.mark.fast
def test_hashes_are_those_of_the_pins() -> None:
    pinned, hashed = pins(ROOT / "requirements.txt"), pins(ROOT / "requirements/hashes.lock")
    assert len(pinned) > 100
    stale = {name for name, version in pinned.items() if hashed.get(name) != version}
    assert not stale, "run `make hashes`"


@pytest.mark.fast
def test_what_makes_an_installation_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    obstacles = CHECK["obstacles"]
    assert list(obstacles((3, 11), 9.0, 8)) == []
    old, small = obstacles((3, 10), 7.5, 8)
    assert old == "this is Python 3.10: install Python 3.11 or newer, or say make PYTHON=/path/to/python3"
    assert "the packages need 8 GB of disk, and 7.5 GB are free" in small
    monkeypatch.setenv("PATH", "/nowhere")
    (missing,) = obstacles((3, 12), 9.0, 8)
    assert "git is missing" in missing


@pytest.mark.fast
def test_what_a_user_is_told_before_the_first_run() -> None:
    notes = CHECK["notes"]
    assert list(notes("Linux", "x86_64", ["sse2", "avx2"], 8.0)) == []
    slow, crowded = notes("Linux", "x86_64", ["sse2"], 1.2)
    assert "has no AVX2" in slow
    assert "1.2 GB of memory are free" in crowded
    (other,) = notes("Darwin", "arm64", [], None)
    assert "results of Darwin on arm64 have bytes of their own" in other


def test_make_says_what_is_missing_and_prefers_uv(tmp_path: Path) -> None:
    project = tmp_path / "a project"
    project.mkdir()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copyfile(ROOT / name, project / name)
    shutil.copytree(ROOT / "requirements", project / "requirements")
    assert "make: no-python is missing" in run("make", "setup", "PYTHON=no-python", cwd=project, code=2)
    assert "leave out HASHES or TORCH_INDEX" in run("make", "setup", "HASHES=1", "TORCH_INDEX=x", cwd=project, code=2)
    assert not (project / ".venv").exists()
    planned = run("make", "-n", "setup", "UV=", cwd=project)
    assert ".venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt" in planned
    planned = run("make", "-n", "setup", "UV=/bin/uv", "HASHES=1", cwd=project)
    assert "/bin/uv pip install --python .venv/bin/python --require-hashes -r requirements/hashes.lock" in planned
    planned = run("make", "-n", "setup", "UV=", "TORCH_INDEX=https://example.org/cpu", cwd=project)
    assert "-r requirements.txt --extra-index-url https://example.org/cpu" in planned
    assert "check.py 3" in planned
