"""`darkroom export`: a file that says what the checkpoint says, without torch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from conftest import ROOT, read_csv, surroundings
from darkroom.inference import export, from_checkpoint, from_onnx, predictor
from darkroom.networks import registry
from darkroom.system import files
from darkroom.system.errors import UserError

NAMES = ["scratch", "finetune"]


@pytest.fixture(scope="module")
def exported(rebuilt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds both models, exported."""
    folder = tmp_path_factory.mktemp("exported")
    for name in NAMES:
        export.export(rebuilt / f"models/{name}.pth", str(rebuilt / "data/split/test"), folder / f"{name}.onnx")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_the_checkpoint_does(exported: Path, rebuilt: Path, name: str) -> None:
    """Also how unlike the training images an image is, and what val knows; for one image and for many."""
    ours, theirs = (predictor.load(path) for path in (rebuilt / f"models/{name}.pth", exported / f"{name}.onnx"))
    assert (ours.title, ours.classes, ours.resolution) == (theirs.title, theirs.classes, theirs.resolution)
    assert all(np.array_equal(a, b) for a, b in zip(ours.known, theirs.known, strict=True))
    sample = next(export.batches_of(str(rebuilt / "data/split/test"), ours.resolution))
    for pixels in (sample, sample[:1]):
        for ours_say, theirs_say, tolerance in zip(
            ours.answer(pixels), theirs.answer(pixels), (1e-5, 1e-2), strict=True
        ):
            assert ours_say == pytest.approx(theirs_say, abs=tolerance)
    assert (torch.tensor(1e-30) * torch.tensor(1e-10)).item() == 0  # ONNX Runtime leaves torch's arithmetic as it was


def test_the_file_repeats_and_names_no_folder(exported: Path, rebuilt: Path) -> None:
    checkpoint = rebuilt / "models/scratch.pth"
    written = (exported / "scratch.onnx").read_bytes()
    sha256 = files.sha256(checkpoint.read_bytes())
    assert export.as_onnx(registry.load(checkpoint), sha256) == written
    assert sha256.encode() in written
    for folder in (ROOT, Path(torch.__file__).parent, Path.home()):
        assert str(folder).encode() not in written


def test_a_file_that_disagrees_is_not_written(rebuilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here because the flips of the views are forgotten."""
    checkpoint, test = rebuilt / "models/finetune.pth", str(rebuilt / "data/split/test")
    right = export.as_onnx

    def forgetful(model: registry.Model, sha256: str) -> bytes:
        about = type(model.about)(**{**vars(model.about), "flips": [] if model.about.flips else ["vertical"]})
        return right(registry.Model(model.network, about, model.calibration), sha256)

    monkeypatch.setattr(export, "as_onnx", forgetful)
    with pytest.raises(UserError, match="is not written"):
        export.export(checkpoint, test, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_predict_needs_no_torch(exported: Path, rebuilt: Path, tmp_path: Path) -> None:
    """The probabilities of plots/predictions.csv, in a process that cannot import torch, SciPy or scikit-learn."""
    for name in ("torch", "scipy", "sklearn", "matplotlib", "dvc"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')")
    command: list[str | Path] = [
        Path(sys.executable).with_name("darkroom"),
        "predict",
        "data/split/test",
        "--probabilities",
    ]
    done = subprocess.run(
        [*command, "--model", exported / "finetune.onnx", "--output", tmp_path / "out.csv"],
        cwd=rebuilt,
        env=surroundings(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {row["path"]: row for row in read_csv(tmp_path / "out.csv")}
    expected = [row for row in read_csv(rebuilt / "plots/predictions.csv") if row["model"] == "finetune"]
    assert len(found) == len(expected)
    for row in expected:
        own = found[f"data/split/test/{row['path']}"]
        for column in (column for column in row if column.startswith("probability_")):
            label = column.removeprefix("probability_")
            assert float(own[f"probability_of_{label}"]) == pytest.approx(float(row[column]), abs=1e-5)


@pytest.mark.product
def test_the_script_of_the_docs(exported: Path, rebuilt: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/export.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.S)
    expected = [row for row in read_csv(rebuilt / "plots/predictions.csv") if row["model"] == "finetune"][:5]
    paths = [rebuilt / "data/split/test" / row["path"] for row in expected]
    printed = subprocess.run(
        [sys.executable, "-c", script, exported / "finetune.onnx", *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line, row in zip(printed.splitlines(), expected, strict=True):
        label, probability, _, _ = line.split("\t")
        assert label == row["predicted"]
        assert float(probability) == pytest.approx(float(row[f"probability_{label}"]), abs=1e-5)


def test_foreign_files(exported: Path, tmp_path: Path) -> None:
    proto = onnx.load(exported / "scratch.onnx")
    about = json.loads(proto.metadata_props[0].value)
    later, stranger = tmp_path / "later.onnx", tmp_path / "stranger.onnx"
    onnx.helper.set_model_props(proto, {from_onnx.KEY: json.dumps(about | {"format": 99})})
    onnx.save(proto, later)
    onnx.helper.set_model_props(proto, {"author": "somebody"})
    onnx.save(proto, stranger)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    for path, message in {
        later: "was exported by another version of Darkroom",
        stranger: "was not written by `darkroom export`",
        broken: "cannot be read as an ONNX file",
        tmp_path / "missing.onnx": "No such file or directory",
    }.items():
        with pytest.raises(UserError, match=message):
            from_onnx.load(path)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(rebuilt: Path, tmp_path: Path) -> None:
    checkpoint = rebuilt / "models/scratch.pth"
    for target, message in {
        tmp_path / "no/m.onnx": "cannot be written",
        checkpoint: "it is none of export's",
    }.items():
        with pytest.raises(UserError, match=message):
            export.export(checkpoint, "nowhere", target)


def test_an_empty_folder_to_check_on(rebuilt: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no image in"):
        export.export(rebuilt / "models/scratch.pth", str(tmp_path / "empty"), tmp_path / "m.onnx")


def test_a_layer_that_the_exporter_does_not_know(rebuilt: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps if float(maps.sum()) > 0 else -maps  # depends on the data, which no graph can say

    model = registry.load(rebuilt / "models/scratch.pth")
    model.network.backbone = torch.nn.Sequential(model.network.backbone, Odd())
    with pytest.raises(UserError, match=r"small_cnn cannot be exported .*: use the checkpoint"):
        export.as_onnx(model, "")
    assert from_checkpoint.of_model(model).classes
