"""docs/how-to/add-a-model.md is true: its steps add a model that everything after the trainings knows."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from conftest import ROOT, darkroom, run


def follow_the_page(project: Path) -> None:
    """Add the model: a stage file, a section of params.yaml, an entry in dvc.yaml, a word in the list."""
    page = (ROOT / "docs/how-to/add-a-model.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    section, entry, models = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (project / "src/darkroom/stages/train_linear.py").write_text(code)
    params = (project / "params.yaml").read_text()
    listed = re.sub(r"^models:.*?(?=^\w)", models, params, flags=re.M | re.S)
    assert listed != params
    (project / "params.yaml").write_text(f"{listed}\n{section}")
    dag = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(dag.replace("  evaluate:\n", f"{entry}  evaluate:\n"))
    run("darkroom", "deps", cwd=project)


def models_of(path: Path) -> set[str]:
    """The models in a CSV file."""
    with path.open(newline="") as stream:
        return {row["model"] for row in csv.DictReader(stream)}


@pytest.mark.product
def test_a_third_model(rebuilt: Path, tmp_path: Path) -> None:
    project = tmp_path / "three models"
    shutil.copytree(rebuilt, project, symlinks=True)
    width = Image.open(project / "plots/confusion.png").width
    follow_the_page(project)
    log = run("dvc", "repro", cwd=project)
    ran = re.findall(r"Running stage '(\w+)'", log)
    assert ran == ["train_linear", "evaluate", "tsne"]

    scores = json.loads((project / "metrics/evaluate.json").read_text())
    assert scores["linear"]["accuracy"]["value"] > 0.4  # four classes
    assert set(scores["comparison"]) == {"scratch_finetune", "scratch_linear", "finetune_linear"}
    for name in ("predictions", "roc", "reliability", "tsne"):
        assert models_of(project / f"plots/{name}.csv") == {"scratch", "finetune", "linear"}
    assert Image.open(project / "plots/confusion.png").width > 1.3 * width
    summary = darkroom("summary", cwd=project)
    assert "from scratch against linear: p = " in summary
    assert f"{scores['linear']['accuracy']['value']:.3f} (" in summary

    compared = darkroom("compare", "HEAD", "--fail-on", "worse", "--max-drop", "accuracy=0.01", cwd=project)
    accuracy = scores["linear"]["accuracy"]["value"]
    assert f"| linear | accuracy |  | {accuracy:.3f} |  |  | new in head |" in compared
    darkroom("pr-report", "HEAD", cwd=project)
    assert "| linear | accuracy |" in (project / "report/report.md").read_text()
    run("git", "add", "-A", cwd=project)
    run("git", "commit", "-q", "-m", "A third model", cwd=project)
    assert "only in base" in darkroom("compare", "HEAD", "HEAD~1", cwd=project)
