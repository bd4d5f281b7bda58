"""`darkroom predict`: the same probabilities as evaluate, from any folder, for any file."""

import csv
import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import read_csv, surroundings
from darkroom.inference import output
from darkroom.inference.predict import Prediction, files_of
from darkroom.system.errors import UserError


def predict(*words: str | Path, cwd: Path, code: int = 0) -> str:
    """What `darkroom predict WORDS` prints to standard output, in a process of its own: torch is set up once in a process."""
    done = predict_process(*words, cwd=cwd)
    assert done.returncode == code, done.stderr
    return done.stdout


def predict_process(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("darkroom")), "predict", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=surroundings(), capture_output=True, text=True, check=False)


def rows_of(text: str) -> dict[str, dict[str, str]]:
    """The rows of a CSV text by path."""
    return {row["path"]: row for row in csv.DictReader(io.StringIO(text))}


def every(project: Path, *words: str | Path, model: str, code: int = 0) -> dict[str, dict[str, str]]:
    """The rows with the probability of each class, by path."""
    return rows_of(predict(*words, "--model", model, "--probabilities", cwd=project, code=code))


@pytest.mark.parametrize("model", ["scratch", "finetune"])
def test_the_probabilities_are_those_of_evaluate(copy: Path, model: str) -> None:
    """In order, shuffled among broken files, and one by one."""
    expected = {row["path"]: row for row in read_csv(copy / "plots/predictions.csv") if row["model"] == model}
    (copy / "broken.png").write_bytes(b"no image")
    mixed = [f"data/split/test/{path}" for path in expected] + ["broken.png", "nowhere.png"] * 5
    random.Random(0).shuffle(mixed)
    one = next(iter(expected))
    found = {
        "a folder": every(copy, "data/split/test", model=model),
        "mixed": every(copy, *mixed, model=model, code=1),
        "one": every(copy, f"data/split/test/{one}", model=model),
    }
    for name, rows in found.items():
        known = {path: row for path, row in rows.items() if not row["reason"]}
        assert len(known) == (1 if name == "one" else len(expected))
        for path, row in known.items():
            own = expected[path.removeprefix("data/split/test/")]
            assert row["class"] == own["predicted"]
            for column, value in own.items():
                if column.startswith("probability_"):
                    label = column.removeprefix("probability_")
                    assert float(row[f"probability_of_{label}"]) == pytest.approx(float(value), abs=1.001e-6)
    assert found["mixed"]["broken.png"]["reason"].startswith("is not an image that can be read")
    assert found["mixed"]["nowhere.png"]["reason"] == "does not exist"


def test_a_checkpoint_alone_and_a_revision(copy: Path, tmp_path: Path) -> None:
    image = copy / "data/split/test" / read_csv(copy / "plots/predictions.csv")[0]["path"]
    alone = tmp_path / "a folder"
    alone.mkdir()
    shutil.copy(copy / "models/scratch.pth", alone / "m.pth")
    shutil.copy(image, alone / "x.png")
    here = rows_of(predict(image, "--model", "scratch", cwd=copy))
    there = rows_of(predict("x.png", cwd=alone))
    (copy / "models/scratch.pth").unlink()
    before = rows_of(predict(image, "--model", "scratch", "--rev", "HEAD", cwd=copy))
    probabilities = [next(iter(rows.values()))["probability"] for rows in (here, there, before)]
    assert len(set(probabilities)) == 1


def test_val_chooses_the_model(copy: Path) -> None:
    for name, accuracy in (("scratch", 0.9), ("finetune", 0.8)):
        (copy / f"metrics/train_{name}.json").write_text(json.dumps({"val_accuracy": accuracy, "val_loss": 1.0}))
    image = copy / "data/split/test" / read_csv(copy / "plots/predictions.csv")[0]["path"]
    chosen, scratch = (rows_of(predict(image, *words, cwd=copy)) for words in ([], ["--model", "scratch"]))
    assert chosen == scratch


def test_formats(copy: Path) -> None:
    images = [f"data/split/test/{row['path']}" for row in read_csv(copy / "plots/predictions.csv")[:3]]
    lines = predict(*images, "missing.png", "--format", "json", "--top", "2", cwd=copy, code=1).splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    assert [row["path"] for row in rows] == [*images, "missing.png"]
    assert len(rows[0]["top"]) == 2
    assert max(rows[0]["top"].values()) == rows[0]["probability"]
    assert rows[0]["answer"] in {"sure", "unsure", "unknown"}
    assert rows[-1] == {"path": "missing.png", "reason": "does not exist"}
    table = predict(images[0], "--format", "table", cwd=copy)
    assert images[0] in table


def test_a_pipe_that_closes_and_paths_on_standard_input(copy: Path) -> None:
    paths = "\n".join(f"data/split/test/{row['path']}" for row in read_csv(copy / "plots/predictions.csv"))
    command = f"'{Path(sys.executable).with_name('darkroom')}' predict - | head -n 2"
    done = subprocess.run(
        command, shell=True, cwd=copy, env=surroundings(), input=paths, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr


def test_an_interrupt_leaves_whole_lines(copy: Path) -> None:
    """One path of a stream that does not end is asked about, and Ctrl-C comes while the next is waited for."""
    path = f"data/split/test/{read_csv(copy / 'plots/predictions.csv')[0]['path']}"
    command: list[str | Path] = [Path(sys.executable).with_name("darkroom"), "predict", "-", "--model", "scratch"]
    with subprocess.Popen(
        command,
        cwd=copy,
        env=surroundings(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(f"{path}\n" * 1000)
        process.stdin.flush()
        printed = [process.stdout.readline() for _ in range(3)]  # the header and two rows
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        printed += process.stdout.readlines()
        assert process.wait() == 130
        assert process.stderr.read().count("interrupted") == 1
    assert all(line.endswith("\n") and line.count(",") == printed[0].count(",") for line in printed)
    assert len(set(printed[1:])) == 1


@pytest.mark.fast
def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of the tests may be root, to whom every folder is open."""

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"{tmp_path} cannot be listed \\(Permission denied\\): let this user read it"):
        list(files_of([str(tmp_path)]))


@pytest.mark.fast
def test_a_path_with_a_line_break_stays_in_its_cell() -> None:
    predictions = [Prediction(path, "does not exist", np.zeros(0), np.zeros(0), False) for path in ("a\nb", "c\rd")]
    lines = "".join(f"{line}\n" for line in output.as_csv(predictions, ["one"], 1, False))
    assert [row["path"] for row in csv.DictReader(io.StringIO(lines, newline=""))] == ["a\nb", "c\rd"]


@pytest.mark.fast
def test_paths_on_standard_input_may_be_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines may end as Windows ends them. What is not named as an image is counted, and hidden files are not."""
    for name in ("a.png", "b.avif", "c", ".hidden"):
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"x.png\r\n{tmp_path}\n\n", newline=""))
    tally = output.Tally()
    assert list(files_of(["-"], tally.pass_over)) == ["x.png", str(tmp_path / "a.png")]
    assert tally.passed_over == {".avif": 1, "no suffix": 1}


def test_mistakes_are_one_sentence(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (copy / "photos").mkdir()
    (tmp_path / "other.pth").write_bytes(b"x")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    for words, message in {
        ("data/split/test", "--model", "nothing"): "no model 'nothing': its models are scratch, finetune",
        ("data/split/test", "--model", str(tmp_path / "other.pth")): "other.pth is damaged",
        ("data/split/test", "--model", str(tmp_path / "foreign.pth")): "is not a checkpoint of darkroom's",
        ("data/split/test", "--model", "photos"): "--model photos is a folder: name the file in it",
        (str(tmp_path / "empty"), "--output", str(tmp_path / "new.csv")): "there is no image in",
        (): "say what to classify",
        ("data/split/test", "--rev", "nowhere"): "Git knows no revision 'nowhere'",
        ("data/split/test", "--output", "/proc/no/folder.csv"): "cannot be written",
        ("data/split/test", "--output", "models/scratch.pth"): "there is such a file already",
    }.items():
        done = predict_process(*words, cwd=copy)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "new.csv").exists()
    metrics = copy / "metrics/train_scratch.json"
    metrics.write_text(f"<<<<<<< HEAD\n{metrics.read_text()}")
    done = predict_process("data/split/test", cwd=copy)
    assert (done.returncode, "metrics/train_scratch.json of this project is damaged" in done.stderr) == (2, True)


def test_names_that_are_not_utf_8_and_a_folder_with_the_name_of_a_model(copy: Path, tmp_path: Path) -> None:
    image = copy / f"data/split/test/{read_csv(copy / 'plots/predictions.csv')[0]['path']}"
    (copy / "scratch").mkdir()
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes(image.read_bytes())
    command = [str(Path(sys.executable).with_name("darkroom")), "predict", "-", "--model", "scratch"]
    done = subprocess.run(command, cwd=copy, env=surroundings(), input=name, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_what_is_unlike_the_training_images_is_unknown(copy: Path) -> None:
    """Noise in all colours among digits in grey."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(copy / "noise.png")
    rows = every(copy, "noise.png", "data/split/test", model="finetune")
    assert rows.pop("noise.png")["answer"] == "unknown"
    assert sum(row["answer"] == "unknown" for row in rows.values()) < 0.2 * len(rows)


def test_a_model_of_an_earlier_revision(copy: Path) -> None:
    """The model of the last commit answers although another one lies here."""
    image = copy / "data/split/test" / read_csv(copy / "plots/predictions.csv")[0]["path"]
    before = predict(image, "--model", "finetune", cwd=copy)
    shutil.copy(copy / "models/scratch.pth", copy / "other.pth")
    (copy / "models/finetune.pth").unlink()
    shutil.move(copy / "other.pth", copy / "models/finetune.pth")
    assert predict(image, "--model", "finetune", cwd=copy) != before
    assert predict(image, "--model", "finetune", "--rev", "HEAD", cwd=copy) == before
