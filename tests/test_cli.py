"""The command line, and DVC around the stages: each mistake ends in one sentence."""

import shutil
from pathlib import Path

import pytest
import yaml

from conftest import STAGE, darkroom, run, set_params
from darkroom import runner
from darkroom.rebuild import params_check
from darkroom.system.errors import UserError


def test_unknown_stage(tmp_path: Path) -> None:
    assert "usage" in run("python", STAGE, "trane", cwd=tmp_path, code=1)


@pytest.mark.fast
def test_unknown_command(tmp_path: Path) -> None:
    assert "No such command" in darkroom("trane", cwd=tmp_path, code=2)


@pytest.mark.fast
def test_every_command_has_its_help(tmp_path: Path) -> None:
    printed = darkroom("--help", cwd=tmp_path)
    commands = ["run", "demo", "summary", "verify", "deps", "data-diff", "compare", "pr-report", "seeds", "tune"]
    assert all(f" {command} " in printed for command in [*commands, *runner.names()])


@pytest.mark.fast
@pytest.mark.parametrize("command", ["run", "deps"])
def test_the_command_wants_the_top_folder(command: str, tmp_path: Path) -> None:
    assert "run from the project's top folder" in darkroom(command, cwd=tmp_path, code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fast
def test_all_params_can_be_checked_before_anything_runs(folder: Path) -> None:
    """Also those of the last stage, which `dvc repro` would reach after minutes. A stage of the user's own is left to itself."""
    dag = yaml.safe_load((folder / "dvc.yaml").read_text())
    dag["stages"]["mine"] = {"cmd": "python my.py", "deps": ["my.py"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump(dag, sort_keys=False))
    params_check.check()
    assert params_check.is_changed()  # nothing has run
    set_params(folder, {"evaluate": {"merge": "-(defective"}})
    with pytest.raises(UserError, match=r"evaluate.merge: '-\(defective' is not a regular expression"):
        params_check.check()
    (folder / "params.yaml").write_text("run:\n  seed:1\n  threads: 2\n")
    with pytest.raises(UserError, match=r"params.yaml is not valid YAML, mend it: .* line 3"):
        params_check.is_changed()


def test_a_mistake_in_params_is_found_before_the_first_stage(copy: Path) -> None:
    set_params(copy, {"split": {"salt": "other"}, "evaluate": {"bins": "many"}})
    assert "params.yaml: evaluate.bins is 'many'" in run("darkroom", "run", cwd=copy, code=2)
    assert run("git", "status", "--porcelain", cwd=copy).split() == ["M", "params.yaml"]


def test_an_emptied_data_set_is_not_taken_for_new_data(copy: Path) -> None:
    tracked = (copy / "data/raw.dvc").read_text()
    shutil.rmtree(copy / "data/raw")
    (copy / "data/raw").mkdir()
    assert "data/raw is empty" in darkroom("run", cwd=copy, code=2)
    assert (copy / "data/raw.dvc").read_text() == tracked
    (copy / "data/raw").rmdir()
    printed = run("darkroom", "run", cwd=copy)
    assert "macro F1" in printed
    assert printed.endswith("The results as a page: report/index.html\n")
    assert (copy / "report/index.html").exists()
    assert len(list((copy / "data/raw").rglob("*.png"))) == 240


def test_dvc_stops_without_a_traceback(digits: Path) -> None:
    set_params(digits, {"train_finetune": {"backbone": "resnet19"}})
    printed = run("dvc", "repro", "train_finetune", cwd=digits, code=255)
    assert "darkroom train_finetune: neither torchvision nor timm has a backbone 'resnet19'" in printed
    assert "Traceback" not in printed
    assert not list((digits / "models").glob("*.pth"))


def test_no_name_runs_code_in_the_page_of_plots(digits: Path) -> None:
    """A path in a CSV that is plotted would end the script that holds it, whether its file is used or left out."""
    raw = digits / "data/raw"
    for number, source in enumerate(("digit-0/003.png", "digit-1/notes.txt")):
        (raw / source).touch()
        folder = raw / "digit-1/a<" / f"script><script>alert({number})"
        folder.mkdir(parents=True)
        shutil.move(raw / source, folder)
    run("dvc", "repro", "-q", "split", cwd=digits)
    run("dvc", "plots", "show", "data/manifest.csv", "plots/near_duplicates.csv", cwd=digits)
    page = (digits / "dvc_plots/index.html").read_text()
    assert "alert(0)" in page
    assert "alert(1)" in page
    assert "<script>alert" not in page
    printed = darkroom("data-diff", "--all", cwd=digits)
    assert "digit-1/a\\x3c/script>\\x3cscript>alert(0)/003.png" in printed
