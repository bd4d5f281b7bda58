"""What every stage that trains by epochs does: fit the model and write the results."""

from pathlib import Path

import torch

from darkroom.networks import checkpoint
from darkroom.networks.classifier import Classifier
from darkroom.system import workers
from darkroom.system.files import write_csv, write_json
from darkroom.training import history, resume, team
from darkroom.training.calibrate import calibrate
from darkroom.training.loop import Task, fit, identity


def train(name: str, model: Classifier, optimizer: torch.optim.Optimizer, task: Task) -> None:
    """Train `model` with all workers, and write models/NAME.pth, plots/train_NAME.csv and metrics/train_NAME.json.

    Only the first worker writes.
    """
    known = identity(model, task)
    state = resume.path(task.stage, known)
    with team.together(task, known):
        epochs = fit(model, optimizer, task, state)
        calibration = calibrate(model, task.about, task.train, task.val, task.run)
        if not workers.is_first():
            return
    checkpoint.save(checkpoint.path(name), model, task.about, calibration, checkpoint.provenance(name, task.run))
    write_csv(history.path(name), *history.table(epochs))
    write_json(Path(f"metrics/train_{name}.json"), history.summary(epochs))
    resume.finish(state, checkpoint.path(name))
