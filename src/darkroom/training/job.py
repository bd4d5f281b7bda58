"""What every stage that trains by epochs does: fit the model and write the results."""

from pathlib import Path

import torch

from darkroom.networks import checkpoint
from darkroom.networks.classifier import Classifier
from darkroom.system.device import made_by
from darkroom.system.files import write_csv, write_json
from darkroom.training import history, resume
from darkroom.training.loop import Task, fit


def train(name: str, model: Classifier, optimizer: torch.optim.Optimizer, task: Task) -> None:
    """Train `model` and write models/NAME.pth, plots/train_NAME.csv and metrics/train_NAME.json."""
    epochs = fit(model, optimizer, task)
    checkpoint.save(checkpoint.path(name), model, task.about, made_by(task.run))
    write_csv(history.path(name), *history.table(epochs))
    write_json(Path(f"metrics/train_{name}.json"), history.summary(epochs))
    resume.finish(task.stage, checkpoint.path(name))
