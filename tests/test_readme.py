"""The README is true: its commands run, its table is that of metrics/, its files and params exist."""

import re
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, make_project, run, write_digits
from darkroom.report import summary

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.replace("\\\n", " ").splitlines()]


def test_the_results_table_is_that_of_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert summary.table() in README


def test_the_measured_rows_are_those_of_the_benches() -> None:
    measured = "".join(path.read_text() for path in (ROOT / "benchmarks/results").glob("*.md"))
    rows = re.findall(r"^\|.* \([\d.]+-[\d.]+\).*\|$", README, re.M)
    assert len(rows) >= 6
    for row in rows:
        assert row in measured


def test_commands_run(tmp_path: Path) -> None:
    """In the order of the README, on small data; `make` and `make test` are CI itself."""
    project = make_project(tmp_path / "a reader's", lambda raw: write_digits(raw, 24))
    run("dvc", "repro", "split", cwd=project)
    run("git", "add", "-A", cwd=project)
    run("git", "commit", "-q", "-m", "What a clone has", cwd=project)
    (tmp_path / "my images").mkdir()
    write_digits(tmp_path / "my images", 40)
    assert len(COMMANDS) >= 10
    for line in COMMANDS:
        run("bash", "-ec", line.replace("/path/to/your/images", "'../my images'"), cwd=project)


def test_files_and_params_that_it_names_exist() -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in re.findall(r"^\| `([a-z_]+\.[a-z_.]+)`", README, re.M):
        value = tree
        for part in key.split("."):
            value = value[part]
    for path in re.findall(r"\]\(([^):#]+)\)", README):
        assert (ROOT / path).exists(), path
