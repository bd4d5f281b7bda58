"""A search for better params: Optuna proposes, DVC runs and keeps each trial as an experiment, val alone judges."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from darkroom.experiments import search_space
from darkroom.experiments.search_space import Dimension, Space
from darkroom.pictures.palette import COLOURS
from darkroom.pictures.style import panels
from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError
from darkroom.system.trees import value_at

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError
except ImportError:
    raise UserError("the search needs Optuna: `pip install -r requirements/tune.txt`") from None

optuna.logging.set_verbosity(optuna.logging.WARNING)  # what it does, our own lines say

FOLDER = Path(".darkroom/tune")
EPOCH = re.compile(r"^epoch +(\d+)/\d+ .* val loss ([\d.]+)")  # as `training.describe` writes it
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
DIVERGED = "the training diverged"  # as `training.fit` says it
PATIENCE = 30  # seconds that DVC has to clear away what a stopped trial left
INPUTS = ("params.yaml", "dvc.yaml", "src", "requirements", "data")  # what the trials of one study have in common


def run(path: Path, name: str, trials: int, storage: str | None) -> str:
    """Run `trials` more trials of the study `name` and return its table.

    Args:
        path: The search space, YAML.
        name: Of the study; its experiments are called tune-NAME-N.
        trials: How many to add, pruned ones counted.
        storage: A URL of Optuna's (a database that several machines share); a journal file of this project when None.

    Raises:
        UserError: The space is wrong or another than the study's, something is not committed, or a trial failed.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"--name '{name}': use letters, digits, - and _ alone, for experiments and files bear it")
    space = search_space.read(path)
    git.refuse_changes("trials are compared for one commit")
    study = open_study(name, space, storage)
    recover(study)
    if defaults := search_space.as_they_are(space):
        study.enqueue_trial(defaults, skip_if_exists=True)  # what the others have to beat
    for _ in range(trials):
        trial = study.ask()
        trial.set_user_attr("process", f"{socket.gethostname()} {os.getpid()}")
        changes = {key: propose(trial, key, dimension) for key, dimension in space.params.items()}
        loss = attempt(trial, space.stage, experiment(name, trial.number), changes)
        state = optuna.trial.TrialState.PRUNED if loss is None else optuna.trial.TrialState.COMPLETE
        study.tell(trial, loss, state)
        said = "pruned" if loss is None else f"val loss {loss:.4g}"
        print(
            f"trial {trial.number}: {said}; {' '.join(f'{key}={value}' for key, value in changes.items())}", flush=True
        )
    if len(complete(study)) > 1:
        draw(study, name)
    return table(study, name, defaults)


def open_study(name: str, space: Space, storage: str | None) -> optuna.Study:
    """The study `name`, new or gone on with.

    Raises:
        UserError: It is of another space or commit.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    epochs = value_at(params.read(params.PARAMS), f"{space.stage}.epochs")
    log = FOLDER / f"{name}.log"
    try:
        study = optuna.create_study(
            study_name=name,
            storage=storage or optuna.storages.JournalStorage(JournalFileBackend(str(log))),
            sampler=optuna.samplers.TPESampler(seed=None, constant_liar=True),
            # A curve leaps about while the rate is high: only what stays among the worst quarter is hopeless.
            pruner=optuna.pruners.PercentilePruner(75.0, n_startup_trials=4, n_warmup_steps=epochs // 3),
            direction="minimize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, OSError, ValueError) as error:
        place, way_out = (f"--storage {storage}", "name a database") if storage else (str(log), "move it away")
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{place} cannot hold the study ({reason}): {way_out}") from None
    own = {
        "search space": space.model_dump_json(),
        "params, data or code": git.read("rev-parse", *(f"HEAD:./{path}" for path in INPUTS)),
    }
    for key, value in own.items():
        if study.user_attrs.get(key, value) != value:
            raise UserError(f"the study '{name}' was begun with other {key}: give this one another --name")
        study.set_user_attr(key, value)
    return study


def recover(study: optuna.Study) -> None:
    """Have the trials tried again whose process, on this machine, is gone: they were killed."""
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        host, _, process = str(trial.user_attrs.get("process", "")).rpartition(" ")
        if host == socket.gethostname() and not is_alive(int(process)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)  # by another worker
            study.enqueue_trial(trial.params)


def is_alive(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def propose(trial: optuna.Trial, key: str, dimension: Dimension) -> Any:
    """A value of one param."""
    if dimension.choices:
        return trial.suggest_categorical(key, dimension.choices)
    low, high = dimension.low, dimension.high
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=dimension.log)
    return float(f"{trial.suggest_float(key, low, high, log=dimension.log):.3g}")  # as a person would write it


def attempt(trial: optuna.Trial, stage: str, name: str, changes: Mapping[str, Any]) -> float | None:
    """Run one trial as the DVC experiment `name`; the val loss of its chosen epoch, or None where it was hopeless.

    Hopeless is a trial whose curve the pruner stops, and one that diverges.

    Raises:
        UserError: It failed.
    """
    settings = [word for key, value in changes.items() for word in ("--set-param", f"{key}={json.dumps(value)}")]
    command = ["exp", "run", "--temp", "--name", name, *settings, stage]
    lines: list[str] = []
    with dvc.start(*command) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                if found := EPOCH.match(line):
                    trial.report(float(found[2]), int(found[1]))
                    if trial.should_prune():
                        return None
        finally:
            stop(process)
    if process.returncode:
        reason = why(lines)
        if DIVERGED in reason:
            return None
        trial.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        raise UserError(
            f"trial {trial.number} failed ({reason}): mend the search space or params.yaml, or choose another --name"
        )
    own = dvc.experiments(name)[dvc.commit("HEAD")]
    return float(json.loads(git.show(own, f"metrics/{stage}.json") or b"{}")["val_loss"])


def why(lines: Sequence[str]) -> str:
    """The reason that a failed run gives in `lines`: the stage's own sentence, or else DVC's, or else the last thing said."""
    said = [line.strip() for line in lines if line.strip()] or ["no reason given"]
    first = (line for start in ("darkroom ", "ERROR: ") for line in reversed(said) if line.startswith(start))
    return next(first, said[-1])


def stop(process: subprocess.Popen[str]) -> None:
    """End DVC and the stage that it runs: by the signal on which it clears its temporary copy away, or else by force."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def experiment(study: str, number: int) -> str:
    """The name of a trial's experiment."""
    return f"tune-{study}-{number}"


def complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that ran to their end, the best first."""
    found = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    return sorted(found, key=lambda trial: (trial.value, trial.number))


def table(study: optuna.Study, name: str, defaults: Mapping[str, Any]) -> str:
    """Markdown: the trials, the best first, which of them has the `defaults`, and how to take the best one."""
    done = complete(study)
    keys = sorted({key for trial in done for key in trial.params})
    lines = [f"| trial | val loss | {' | '.join(keys)} |", "|---|---:|" + "---:|" * len(keys)]
    for trial in done:
        shown = (
            f"{value:.3g}" if isinstance(value, float) else str(value) for value in (trial.params[key] for key in keys)
        )
        number = f"{trial.number}, as they are" if trial.params == defaults else str(trial.number)
        lines.append(f"| {number} | {trial.value:.4g} | {' | '.join(shown)} |")
    stopped = len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.PRUNED]))
    lines += ["", f"{len(done)} trials ran to their end, {stopped} were stopped early. Only val was looked at."]
    if done and done[0].params == defaults:
        lines += ["", "None is better than the params as they are."]
    elif done:
        lines += ["", f"Take the best one: `dvc exp apply {experiment(name, done[0].number)}`, then `dvc repro`."]
    return "\n".join(lines) + "\n"


def draw(study: optuna.Study, name: str) -> None:
    """A picture of the history and, from four trials on, of how much each param matters (fANOVA, Hutter et al. 2014)."""
    done = sorted(complete(study), key=lambda trial: trial.number)
    losses = [trial.value or 0.0 for trial in done]
    importance = optuna.importance.get_param_importances(study) if len(done) >= 4 else {}
    titles = ["History", "How much each param matters"][: 1 + bool(importance)]
    path = FOLDER / f"{name}.png"
    with panels(path, titles, (5.0, 3.2)) as axes:
        numbers = [trial.number for trial in done]
        axes[0].plot(numbers, losses, "o", color=COLOURS[0], label="trial")
        axes[0].step(numbers, list(accumulate(losses, min)), where="post", color=COLOURS[4], label="best so far")
        axes[0].set(xlabel="trial", ylabel="val loss of the chosen epoch")
        axes[0].xaxis.get_major_locator().set_params(integer=True)
        axes[0].legend()
        if importance:
            axes[1].barh(list(importance), list(importance.values()), color=COLOURS[0])
            axes[1].set(xlabel="share of the variance that it explains", xlim=(0, 1))
            axes[1].invert_yaxis()
    print(f"{path} shows the search")
