"""Every mistake that a user can make ends in one sentence: what, where, what to do."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT, SMALL, copy_project, run, set_params, write_digits
from darkroom.evaluation import metrics
from darkroom.networks import checkpoint, models, weights
from darkroom.pictures import figures
from darkroom.stages import split
from darkroom.system import files, params
from darkroom.system.errors import UserError


def stage(name: str) -> None:
    importlib.import_module(f"darkroom.{name}").main()


def outputs(folder: Path) -> list[str]:
    """What a stage may have left, but for what it read."""
    return sorted(p.as_posix() for d in ("data/split", "metrics", "plots", "models") for p in folder.glob(f"{d}/**/*"))


def empty(folder: Path) -> None:
    shutil.rmtree(folder / "data/raw")
    (folder / "data/raw").mkdir()


def one_class(folder: Path) -> None:
    for other in ("digit-1", "digit-2"):
        shutil.rmtree(folder / "data/raw" / other)


def tiny_class(folder: Path) -> None:
    for path in sorted((folder / "data/raw/digit-1").iterdir())[2:]:
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "data/raw"), r"data/raw does not exist: put a folder"),
        (empty, r"data/raw holds no images that can be used"),
        (one_class, r"single class, 'digit-0'"),
        (tiny_class, r"no image of class 'digit-1' \(2 in data/raw\) falls to .*split.ratio"),
        (
            lambda folder: set_params(folder, {"split": {"group": "(unclosed"}}),
            r"split.group.*not a regular expression",
        ),
        (
            lambda folder: set_params(folder, {"split": {"group": "patient-[0-9]+"}}),
            r"does not match 'data/raw/digit-0/000.png'",
        ),
        (lambda folder: set_params(folder, {"split": {"group": "x", "mode": "shuffle"}}), r"set split.mode to hash"),
        (
            lambda folder: set_params(folder, {"split": {"ratio": {"train": 0.8, "val": 0.1, "test": 0.2}}}),
            r"split.ratio.*is 1.1: make it 1",
        ),
    ],
)
def test_split_refuses(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message):
        stage("split")
    assert outputs(folder) == []


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
    model = models_of.get(section) or importlib.import_module(f"darkroom.{section}").Params
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
        params.load("train_scratch", importlib.import_module("darkroom.train_scratch").Params)


@pytest.mark.parametrize("text", ["1e-05", "1E-5", "1.e-5", "0.00001", ".1e-4"])
def test_numbers_as_dvc_writes_them_are_numbers(folder: Path, text: str) -> None:
    """DVC writes YAML 1.2, in which 1e-05 is a number; PyYAML alone reads it as text."""
    path = folder / "params.yaml"
    old = "lr: 0.05\n"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, f"lr: {text}\n", 1))
    from darkroom.stages.train_scratch import Params

    assert params.load("train_scratch", Params).lr == 1e-5


def small_model() -> tuple[models.Classifier, checkpoint.About]:
    about = checkpoint.About(
        models.SMALL_CNN, {"width": 4, "blocks": 2, "dropout": 0.0}, ["a", "b"], 32, [], [0.5] * 3, [0.5] * 3
    )
    return models.build(about.architecture, about.options, 2), about


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "cannot be read"),
        (lambda path: path.write_text("text"), "cannot be read|could run code"),
        (lambda path: torch.save([1, 2], path), "not a checkpoint of darkroom's"),
        (lambda path: torch.save(small_model()[0].state_dict(), path), "not a checkpoint of darkroom's"),
        (
            lambda path: torch.save(
                {**torch.load(path), "state_dict": models.small_cnn(2, 8, 2, 0.0).state_dict()}, path
            ),
            "another architecture than the small_cnn",
        ),
        (lambda path: torch.save(small_model()[0], path), "could run code"),
    ],
)
def test_checkpoints_are_refused(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "model.pth"
    checkpoint.save(path, *small_model(), {})
    assert checkpoint.load(path)[1].classes == ["a", "b"]
    spoil(path)
    with pytest.raises(UserError, match=message):
        checkpoint.load(path)


def test_dvc_stops_without_a_traceback(tmp_path: Path) -> None:
    copy_project(tmp_path)
    set_params(tmp_path, {**SMALL, "train_finetune": {"backbone": "resnet19"}})
    write_digits(tmp_path / "data/raw", 30)
    run("git", "init", "-q", cwd=tmp_path)
    printed = run("dvc", "repro", "train_finetune", cwd=tmp_path, code=255)
    assert "darkroom train_finetune: neither torchvision nor timm has a backbone 'resnet19'" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").glob("*.pth"))


def test_unknown_stage_and_command(tmp_path: Path) -> None:
    assert "usage" in run("python", ROOT / "src/darkroom", "trane", cwd=tmp_path, code=1)
    assert "No such command" in run("darkroom", "trane", cwd=tmp_path, code=2)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "train_scratch",
            {"train_scratch": {"blocks": 7}},
            r"cannot be trained on 32 px squares.*train_scratch.blocks",
        ),
        (
            "train_finetune",
            {"train_finetune": {"backbone": "timm/vit_tiny_patch16_224"}},
            "has no pooling layer to replace: set train_finetune.pooling to average",
        ),
        (
            "train_finetune",
            {"train_finetune": {"backbone": "timm/vit_tiny_patch16_224", "pooling": "average"}},
            r"cannot be trained on 32 px",
        ),
        ("train_finetune", {"train_finetune": {"backbone": "squeezenet1_0"}}, r"does not end in a linear layer"),
        (
            "train_finetune",
            {"train_finetune": {"backbone": "fasterrcnn_resnet50_fpn"}},
            r"neither torchvision nor timm",
        ),
        ("train_finetune", {"train_finetune": {"weights": "../own.pth"}}, r"'default' or a file in weights/"),
    ],
)
def test_networks_that_do_not_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, changes: dict[str, dict[str, object]], message: str
) -> None:
    set_params(folder, changes)
    stage("split")
    stage("stats")

    def without_download(backbone: str, *_: object) -> weights.Pretrained:
        return weights.Pretrained(models.imagenet_model(backbone), [0.5] * 3, [0.5] * 3)

    if "vit" in str(changes) or "squeeze" in str(changes):
        monkeypatch.setattr(importlib.import_module("darkroom.train_finetune"), "load_pretrained", without_download)
    with pytest.raises(UserError, match=message):
        stage(name)
    assert not list(folder.glob("models/*"))


def test_a_training_that_diverges_leaves_nothing(folder: Path) -> None:
    stage("split")
    stage("stats")
    set_params(folder, {"train_scratch": {"lr": 1000.0, "weight_decay": 1000.0}})
    with pytest.raises(UserError, match=r"diverged in epoch \d.*lower the learning rate of train_scratch"):
        stage("train_scratch")
    assert not list(folder.glob("models/*"))
    assert not list(folder.glob("plots/train_scratch.csv"))


def test_a_channel_that_never_changes_trains(folder: Path) -> None:
    """Fluorescence images are green alone."""
    for path in folder.glob("data/raw/*/*.png"):
        empty = Image.new("L", (32, 32))
        Image.merge("RGB", (empty, Image.open(path).convert("L"), empty)).save(path)
    for name in ("split", "stats", "train_scratch"):
        stage(name)
    assert files.read_json("metrics/stats.json")["std"]["red"] == 0
    assert 0 < files.read_json("metrics/train_scratch.json")["val_loss"] < 100


def test_an_unknown_section_is_refused(folder: Path) -> None:
    with (folder / "params.yaml").open("a") as stream:
        stream.write("trian_scratch: {lr: 1}\n")
    with pytest.raises(UserError, match=r"trian_scratch is not a section"):
        params.load("split", split.Params)


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (None, ["a-x", "b-x", "c"]),
        ("-(.)$", ["x", "x", "c"]),
        ("x", ["x", "x", "c"]),
        ("(q)?x", ["a-x", "b-x", "c"]),
    ],
)
def test_classes_merge_by_what_the_pattern_finds(merge: str | None, expected: list[str]) -> None:
    assert metrics.merge_classes(["a-x", "b-x", "c"], merge).tolist() == expected


def test_a_class_may_be_named_like_a_formula(tmp_path: Path) -> None:
    labels = np.array([0, 1])
    figures.confusion(labels, {"scratch": labels, "finetune": labels}, ["$a_b$", "$"], tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_an_emptied_data_set_is_not_taken_for_new_data(rebuilt: Path, tmp_path: Path) -> None:
    project = tmp_path / "emptied"
    shutil.copytree(rebuilt, project, symlinks=True)
    tracked = (project / "data/raw.dvc").read_text()
    shutil.rmtree(project / "data/raw")
    (project / "data/raw").mkdir()
    assert "data/raw is empty" in run("darkroom", "run", cwd=project, code=2)
    assert (project / "data/raw.dvc").read_text() == tracked
    (project / "data/raw").rmdir()
    assert "macro F1" in run("darkroom", "run", cwd=project)
    assert len(list((project / "data/raw").rglob("*.png"))) == 240


def test_the_command_wants_the_top_folder(tmp_path: Path) -> None:
    assert "run from the project's top folder" in run("darkroom", "run", cwd=tmp_path, code=2)
    assert list(tmp_path.iterdir()) == []


def test_no_images_and_a_file_in_the_way(folder: Path) -> None:
    with pytest.raises(UserError, match=r"data/split holds no images"):
        stage("tsne")
    (folder / ".darkroom").touch()
    printed = run("python", ROOT / "src/darkroom", "stats", cwd=folder, code=2)
    assert "move away what is in the way" in printed
    assert "Traceback" not in printed
