"""Write what the stages evaluate and split would, for simulated answers, to the project in the current folder.

    python many_answers.py CLASSES IMAGES RAISED

The images are those of test. The models are better the higher RAISED is. `python benchmarks/many_classes.py` measures it.
"""

import sys
from typing import Any

import numpy as np
import torch

from darkroom.data.images import Folder
from darkroom.evaluation import conformal, said
from darkroom.networks.calibration import calibrated
from darkroom.stages import evaluate
from darkroom.system import files, params

MODELS = {"scratch": 8.0, "finetune": 9.0}  # how far the logit of the right class is raised


def write(classes: int, images: int, raised: float) -> None:
    """All files of the two stages that a comparison reads."""
    names = [f"class {k:04d}" for k in range(classes)]
    labels = np.sort(np.arange(images) % classes)
    paths = [f"{names[label]}/{index:07d}.png" for index, label in enumerate(labels)]
    test = Folder(np.empty(0, np.uint8), labels, paths, names)
    choices, run = params.load("evaluate", evaluate.Params), params.load("run", params.Run)
    units = np.arange(images)
    judged = {}
    for number, (name, strength) in enumerate(MODELS.items()):
        answers = simulated(labels, classes, strength + raised, number)
        known: dict[str, Any] = {"title": name, "made_from": None, "temperature": 1.0}
        judged[name] = evaluate.judge_model(test, answers, units, choices, run.seed, known)
        del answers
    evaluate.write(test, judged, units, choices, run)
    split(paths)


def simulated(labels: np.ndarray, classes: int, strength: float, seed: int) -> evaluate.Answers:
    """The answers of a model, as `evaluate.answers_of` puts them together, from random logits."""
    random = np.random.default_rng(seed)
    probabilities, raw = np.empty((len(labels), classes)), []
    for start in range(0, len(labels), evaluate.PIECE):
        own = labels[start : start + evaluate.PIECE]
        logits = 1.5 * random.standard_normal((1, len(own), classes), np.float32)
        logits[0, np.arange(len(own)), own] += strength * random.random(len(own), np.float32)
        probabilities[start : start + evaluate.PIECE] = calibrated(torch.from_numpy(logits), 1.0).numpy().round(6)
        plain = said.from_probabilities(calibrated(torch.from_numpy(logits), 1.3).numpy().round(6), own)
        raw.append(said.Said(plain.predicted, plain.confidence, plain.of_label))
    limits = conformal.Limits(np.full(classes, 0.9), 1.0)
    of_model = said.from_probabilities(probabilities, labels)
    return evaluate.with_sets(of_model, said.joined(raw), limits, labels, random.random(len(labels)) < 0.01)


def split(paths: list[str]) -> None:
    """A manifest of the test images and of three times as many others, and no look-alikes."""
    rows = []
    for number, side in enumerate(("test", "train", "train", "val")):
        for path in paths:
            of_side = f"{path[:-4]}{number}.png" if number else path
            label = path.split("/")[0]
            rows.append((of_side, label, side, "", files.sha256(of_side.encode()), "", ""))
    files.write_csv(
        "data/manifest.csv", ("path", "label", "split", "group", "sha256", "reason", "filler"), sorted(rows)
    )
    files.write_csv("plots/near_duplicates.csv", ("sides", "first", "second", "distance"), [])


if __name__ == "__main__":
    write(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
