"""What a stage is made from is what dvc.lock says: an edit while it runs, and results of two machines, are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from conftest import darkroom, read_json, run, set_params, vouch
from darkroom import runner
from darkroom.networks import checkpoint
from darkroom.system import inputs, lock, pipeline
from darkroom.system.errors import UserError
from darkroom.system.params import Run
from test_resume import read_until, start


def add_pixel(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"\0")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


EDITS: dict[str, tuple[str, Callable[[], object]]] = {
    "split": ("data/raw/poly-defective/005.png", lambda: add_pixel(Path("data/raw/poly-defective/005.png"))),
    "stats": ("stats in dvc.yaml", lambda: edit(Path("dvc.yaml"), "Mean, std, sizes", "Sizes")),
    "train_scratch": ("train_scratch.lr in params.yaml", lambda: set_params(Path(), {"train_scratch": {"lr": 0.01}})),
    "train_finetune": ("src/darkroom/training/loop.py", lambda: add_pixel(Path("src/darkroom/training/loop.py"))),
    "evaluate": ("models/finetune.pth", lambda: Path("models/finetune.pth").unlink()),
    "tsne": ("data/split/test/new.png", lambda: Path("data/split/test/new.png").touch()),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_while_a_stage_runs_is_refused(
    name: str, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The edit takes the place of the stage's work; its results are those of the last run."""
    what, make = EDITS[name]
    monkeypatch.chdir(copy)
    outs = pipeline.outs(pipeline.entry(name))
    models = [checkpoint.path(model) for model in ("scratch", "finetune")]
    kept = {path: path.read_bytes() for path in models}

    assert all(out.exists() for out in outs)
    monkeypatch.setattr(f"darkroom.stages.{name}.main", make)
    monkeypatch.setattr(runner, "prepare", lambda _: None)  # it must come before torch
    assert runner.run_stage(name) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert f"so that its results were removed ({what} changed): run `dvc repro`" in message
    assert not any(out.exists() for out in outs)
    others = [path for path in models if path not in outs and what != str(path)]
    assert all(path.read_bytes() == kept[path] for path in others)


def run_between(
    name: str, monkeypatch: pytest.MonkeyPatch, before: Callable[[], object], after: Callable[[], object]
) -> int:
    """The exit code of the stage `name` if `before` happens after its start, and `after` at its end."""
    stage = __import__(f"darkroom.stages.{name}", fromlist=["main"])
    real = stage.main
    monkeypatch.setattr(runner, "prepare", lambda _: before())
    monkeypatch.setattr(stage, "main", lambda: (real(), after()))
    return runner.run_stage(name)


def test_params_that_change_and_change_back_are_not_used(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `git stash` and `git stash pop` in the seconds in which a stage imports torch."""
    monkeypatch.chdir(copy)
    kept, text = Path("data/manifest.csv").read_bytes(), Path("params.yaml").read_text()
    code = run_between(
        "split",
        monkeypatch,
        lambda: set_params(Path(), {"split": {"salt": "another"}}),
        lambda: Path("params.yaml").write_text(text),
    )
    assert code == 0
    assert Path("data/manifest.csv").read_bytes() == kept


def test_a_file_that_changes_and_changes_back_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been read in between."""
    monkeypatch.chdir(copy)
    table = Path("data/groups.csv")
    text = table.read_text()
    code = run_between("split", monkeypatch, lambda: table.write_text("other"), lambda: table.write_text(text))
    assert code == 2
    assert not Path("data/manifest.csv").exists()


def test_params_that_are_damaged_meanwhile(folder: Path) -> None:
    before = inputs.snapshot("split")
    inputs.refuse_changed("split", before)
    (folder / "data/split/train").mkdir(parents=True)
    (folder / "params.yaml").write_text("run: {")
    with pytest.raises(UserError, match=r"not valid YAML.*run `dvc repro`"):
        inputs.refuse_changed("split", before)
    assert not (folder / "data/split/train").exists()


def test_dvc_records_nothing_and_no_epoch_is_lost(digits: Path) -> None:
    """Edited under `dvc repro`; then run with the edit; then with what was there first."""
    set_params(digits, {"train_scratch": {"epochs": 4}})
    before = (digits / "params.yaml").read_text()
    process = start("dvc", "repro", "train_scratch", cwd=digits)
    read_until(process, "epoch   2/4")
    set_params(digits, {"train_scratch": {"lr": 0.00099}})
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "(train_scratch.lr in params.yaml changed)" in printed
    assert "train_scratch" not in lock.read(digits)
    assert not (digits / "models/scratch.pth").exists()

    printed = run("dvc", "repro", "train_scratch", cwd=digits)
    assert "epoch   1/4" in printed
    with_edit = (digits / "models/scratch.pth").read_bytes()
    (digits / "params.yaml").write_text(before)
    printed = run("dvc", "repro", "train_scratch", cwd=digits)
    assert "going on after epoch 4" in printed
    assert (digits / "models/scratch.pth").read_bytes() != with_edit


def params_recorded(project: Path) -> None:
    """Have dvc.lock record other params, as DVC does when they change after the stage's last look."""
    path = project / "dvc.lock"
    tree = yaml.safe_load(path.read_text())
    tree["stages"]["train_scratch"]["params"]["params.yaml"]["train_scratch"]["lr"] = 0.00099
    path.write_text(yaml.safe_dump(tree))
    set_params(project, {"train_scratch": {"lr": 0.00099}})


def test_a_model_of_other_params_than_dvc_lock_names(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    run_params = run_of(copy)
    made_from = checkpoint.check_provenance("scratch", run_params)
    assert read_json(copy / "metrics/evaluate.json")["scratch"]["made_from"] == made_from
    params_recorded(copy)
    with pytest.raises(
        UserError, match=r"other params or files than dvc.lock names: run .*--no-run-cache --single-item train_scratch"
    ):
        checkpoint.check_provenance("scratch", run_params)
    checkpoint.check_provenance("finetune", run_params)
    printed = darkroom("compare", "HEAD", cwd=copy, code=2)
    assert "names other params or files for train_scratch than its results were made from" in printed


def run_of(project: Path) -> Run:
    """The section `run` of a project's params.yaml."""
    return Run.model_validate(yaml.safe_load((project / "params.yaml").read_text())["run"])


def test_models_of_another_kind_of_machine(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    run_params = run_of(copy)
    path = checkpoint.path("finetune")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "made_by": {**content["made_by"], "device": "NVIDIA H100"}}, path)
    checkpoint.check_provenance("scratch", run_params)
    with pytest.raises(UserError, match=r"another kind of machine \(device NVIDIA H100 there, cpu here\)"):
        checkpoint.check_provenance("finetune", run_params)
    native = run_params.model_copy(update={"mode": "native"})
    with pytest.raises(UserError, match=r"mode portable there, native here, cpu None there"):
        checkpoint.check_provenance("scratch", native)


def test_compare_names_the_machines(copy: Path) -> None:
    assert "kinds of machines" not in darkroom("compare", "HEAD", cwd=copy)
    edit(copy / "metrics/evaluate.json", "device cpu", "device NVIDIA H100")
    vouch(copy)
    printed = darkroom("compare", "HEAD", cwd=copy)
    assert "**The two were computed on different kinds of machines** (base: `device cpu," in printed
    assert "head: `device NVIDIA H100," in printed


@pytest.mark.usefixtures("folder")
def test_a_change_of_code_is_not_in_the_digest() -> None:
    """It is recorded by dvc.lock alone, so that `dvc commit` after a change of a comment needs no other training."""
    shutil.copytree(runner.STAGES.parents[1], "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    before = inputs.digest_now("train_scratch")
    add_pixel(Path("src/darkroom/training/loop.py"))
    assert inputs.digest_now("train_scratch") == before
    add_pixel(Path("requirements/models.txt"))
    assert inputs.digest_now("train_scratch") != before
