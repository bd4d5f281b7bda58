"""The room system: params, files, devices, and how a stage is run."""

import importlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from conftest import RUN, set_params
from darkroom import runner
from darkroom.machines import gpus
from darkroom.stages import split
from darkroom.system import device, files, lock, parallel, params
from darkroom.system.errors import UserError, in_words

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("train_scratch", {"momentun": 0.9}, r"train_scratch.momentun is not a key"),
        ("train_scratch", {"lr": None}, r"train_scratch.lr is None, but input should be a valid number"),
        ("train_scratch", {"lr": "fast"}, r"train_scratch.lr is 'fast'"),
        ("train_scratch", {"lr": -1.0}, r"train_scratch.lr is -1.0, but input should be greater than 0"),
        ("train_scratch", {"lr": float("nan")}, r"train_scratch.lr is nan"),
        ("train_scratch", {"epochs": 2.5}, r"train_scratch.epochs is 2.5"),
        ("train_scratch", {"epochs": True}, r"train_scratch.epochs is True"),
        ("train_scratch", {"schedule": "linear"}, r"train_scratch.schedule is 'linear'.*'one_cycle'"),
        ("train_scratch", {"augment": {}}, r"train_scratch.augment.rotation is missing"),
        ("run", {"threads": 0}, r"run.threads is 0"),
        ("images", {"resolution": 4}, r"images.resolution is 4"),
        ("evaluate", {"merge": "("}, r"evaluate.merge.*not a regular expression"),
    ],
)
def test_params_are_refused_with_their_key(
    folder: Path, section: str, changes: dict[str, object], message: str
) -> None:
    set_params(folder, {section: changes})
    models_of = {"run": params.Run, "images": params.Images}
    model = models_of.get(section) or importlib.import_module(f"darkroom.stages.{section}").Params
    with pytest.raises(UserError, match=message):
        params.load(section, model)


def test_a_missing_section_file_and_bad_yaml(folder: Path) -> None:
    (folder / "params.yaml").write_text("split: {}\n")
    with pytest.raises(UserError, match="no section 'run'"):
        params.load("run", params.Run)
    (folder / "params.yaml").write_text("split: [\n")
    with pytest.raises(UserError, match="not valid YAML"):
        params.load("split", split.Params)
    (folder / "params.yaml").unlink()
    with pytest.raises(UserError, match=r"there is no params.yaml"):
        params.load("split", split.Params)


def test_a_number_in_quotes_is_text(folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("lr: 0.05\n", "lr: '1e-05'\n", 1))
    with pytest.raises(UserError, match=r"train_scratch.lr is '1e-05', but input should be a valid number"):
        params.load("train_scratch", importlib.import_module("darkroom.stages.train_scratch").Params)


@pytest.mark.parametrize("text", ["1e-05", "1E-5", "1.e-5", "0.00001", ".1e-4"])
def test_numbers_as_dvc_writes_them_are_numbers(folder: Path, text: str) -> None:
    """DVC writes YAML 1.2, in which 1e-05 is a number; PyYAML alone reads it as text."""
    path = folder / "params.yaml"
    old = "lr: 0.05\n"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, f"lr: {text}\n", 1))
    from darkroom.stages.train_scratch import Params

    assert params.load("train_scratch", Params).lr == 1e-5


def test_a_misspelled_section_is_refused_before_the_stage_begins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "params.yaml").open("a") as stream:
        stream.write("trian_scratch: {lr: 1}\n")
    assert runner.run_stage("split") == 2
    assert capsys.readouterr().err == (
        "darkroom split: params.yaml: no stage of dvc.yaml has params of the section 'trian_scratch': remove it or mend its "
        "spelling\n"
    )
    assert not (folder / "data/split").exists()


def test_a_stage_that_dvc_yaml_does_not_have_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dag = (folder / "dvc.yaml").read_text()
    for text, message in (
        (dag.replace("  split:\n", "  spilt:\n", 1), "dvc.yaml has no stage 'split': add it"),
        ("stages: [", "dvc.yaml is damaged"),
        ("artifacts: {}\n", "dvc.yaml is damaged"),
        (None, "there is no dvc.yaml in"),
    ):
        (folder / "dvc.yaml").unlink()
        if text is not None:
            (folder / "dvc.yaml").write_text(text)
        assert runner.run_stage("split") == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert len(printed.splitlines()) == 1
        (folder / "dvc.yaml").touch()


def test_the_list_of_models(folder: Path) -> None:
    path = folder / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    assert params.models() == ["scratch", "finetune"]
    for models, message in (
        (["scratch", "third_2"], None),
        ([], "params.yaml has no list 'models': add it"),
        (None, "params.yaml has no list 'models': add it"),
        ("scratch", "params.yaml has no list 'models': add it"),
        (["scratch", "scratch"], "a name stands there twice"),
        (["a", "a_b", "b_c", "c"], "two pairs of names give the same text"),
        (["Scratch"], "'Scratch' cannot name a model: use lower-case letters, digits and _"),
        (["a/b"], "'a/b' cannot name a model"),
        (["../evil"], "cannot name a model"),
        ([1], "1 cannot name a model"),
        ([["scratch"]], "cannot name a model"),
        ([""], "'' cannot name a model"),
        (["count"], "another name than comparison, count, machine"),
        (["comparison"], "another name than comparison, count, machine"),
    ):
        path.write_text(yaml.safe_dump({**tree, "models": models}))
        if message is None:
            assert params.models() == models
        else:
            with pytest.raises(UserError, match=re.escape(message)) as raised:
                params.models()
            assert len(str(raised.value).splitlines()) == 1


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": np.float32(1 / 3), "a": np.int64(2)})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 2,\n  "b": 0.333333\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text())["a"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    def interrupted() -> None:
        with files.new_folder(tmp_path / "out") as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(name: str) -> str:
        return device.choose(RUN.model_copy(update={"device": name})).type

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [chosen(name) for name in ("cpu", "cuda")] == ["cpu", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen("cpu") == "cpu"
    with pytest.raises(UserError, match="torch finds no GPU here: say cpu"):
        chosen("cuda")


def test_another_version_than_the_pinned_one_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its results would stand in dvc.lock as those of the pinned one."""
    path = folder / "requirements/data.txt"
    pinned = path.read_text().replace("pillow==13.0.0", "pillow==12.9.0")
    for text, message in (
        (pinned, "pillow is 13.0.0, but requirements/data.txt pins 12.9.0: run `make setup`"),
        ("numpy >= 2", "package==version"),
        ("", "pins nothing"),
        ("\udcff", "damaged"),
    ):
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        assert runner.run_stage("split") == 2
        assert message in capsys.readouterr().err
    assert not (folder / "data/split").exists()


def test_a_file_in_the_way_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".darkroom").touch()
    assert runner.run_stage("split") == 2
    printed = capsys.readouterr().err
    assert "move away what is in the way" in printed
    assert len(printed.splitlines()) == 1


def test_a_full_memory_is_said() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**48)
    assert "lower batch_size" in str(in_words(caught.value))
    assert in_words(RuntimeError("shapes do not match")) is None


@pytest.mark.fast
def test_dvc_lock_has_numbers_as_dvc_reads_them() -> None:
    """DVC writes 0.00001 as 1e-05, which is text in YAML 1.1."""
    stages = lock.parse("stages:\n  a:\n    cmd: x\n    params:\n      params.yaml:\n        a.lr: 1e-05\n")
    assert lock.params(stages["a"]) == {"a.lr": 0.00001}


def test_the_quota_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(parallel, "QUOTA", tmp_path / "cpu.max")
    found = [parallel.cores()]
    for text in ("max 100000", "250000 100000", "50000 100000"):
        parallel.QUOTA.write_text(text)
        found.append(parallel.cores())
    assert found == [8, 8, 2, 1]


def test_an_unused_gpu_is_named_with_the_params_that_use_it(tmp_path: Path) -> None:
    run = RUN.model_copy(update={"device": "cpu"})
    assert gpus.advice(run, tmp_path) == ""
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert "3 GPUs" in (said := gpus.advice(run, tmp_path))
    changed = {"device": "cuda", "shards": 2, "mode": "native", "precision": "bfloat16"}
    assert all(f"run.{key} to {value}" in said for key, value in changed.items())
    assert gpus.advice(run.model_copy(update=changed), tmp_path) == ""
