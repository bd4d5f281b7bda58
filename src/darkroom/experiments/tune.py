"""Search for better params. Optuna proposes them, DVC runs each trial as an experiment, and only the val loss decides."""

import contextlib
import json
import random
import re
import shlex
import socket
import time
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from darkroom.experiments import clone, gain, members, search_space
from darkroom.experiments.search_space import Dimension, Space
from darkroom.pictures.palette import COLOURS
from darkroom.pictures.style import panels
from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError
from darkroom.system.trees import value_at

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
except ImportError:
    raise UserError("the search needs Optuna: `pip install -r requirements/extras/tune.txt`") from None

optuna.logging.set_verbosity(optuna.logging.WARNING)  # `search` prints a line per trial

FOLDER = Path(".darkroom/tune")
EPOCH = re.compile(r"^epoch +(\d+)/\d+ .* val loss ([\d.]+)")  # a line of `history.describe`
RAN = "ran"  # where a trial keeps the params that it was run with; Optuna keeps those that it proposed
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
DIVERGED = "the training diverged"  # part of the message of `loop.run_epoch`
TRIES = 5  # to open a database that others make at the same time
INPUTS = ("params.yaml", "dvc.yaml", "src", "requirements", "data")  # these are the same for all trials of a study


def search(path: Path, name: str, trials: int, storage: str | None) -> str:
    """Add `trials` trials to the study `name` and return the table of all its trials as Markdown.

    All trials run HEAD as it is now. What is committed or edited meanwhile changes none of them.

    Args:
        path: The YAML file with the search space.
        name: Name of the study. Its experiments are named tune-NAME-N.
        trials: Number of trials to add. Pruned ones count too.
        storage: URL of a database that several machines can share, as Optuna reads it. None means a file of this project.

    Raises:
        UserError: The search space is wrong, the study was begun with another space or commit, NNODES is set, or a trial failed.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"--name '{name}': use letters, digits, - and _ alone, because experiments and files get this name"
        )
    members.refuse_machines()
    search_space.read(path)  # a mistake is told before anything is cloned
    with clone.of_head() as head:
        space = search_space.read(path, head.root)
        study = open_study(name, space, storage, head.root, head.commit)
        recover(study)
        defaults = search_space.as_they_are(space, head.root)
        if defaults:
            study.enqueue_trial(defaults, skip_if_exists=True)  # the baseline for the other trials
        for _ in range(trials):
            try_one(study, name, space, head, defaults)
    if len(complete(study)) > 1:
        draw(study, name)
    return as_markdown(study, name, space.stage, defaults)


def try_one(study: optuna.Study, name: str, space: Space, head: clone.Clone, defaults: Mapping[str, Any]) -> None:
    """Run one trial of the study `name` in the clone `head`, and print a line on it. `defaults` are the params as they are.

    Raises:
        UserError: The trial failed.
    """
    trial = study.ask()
    trial.set_user_attr("lock", str(head.lock))
    trial.set_user_attr("host", socket.gethostname())
    trial.set_user_attr("folder", str(Path.cwd()))
    changes = {key: propose(trial, key, dimension, defaults.get(key)) for key, dimension in space.params.items()}
    trial.set_user_attr(RAN, changes)
    loss = attempt(trial, head, space.stage, experiment(name, trial.number), changes)
    state = optuna.trial.TrialState.PRUNED if loss is None else optuna.trial.TrialState.COMPLETE
    study.tell(trial, loss, state)
    result = "pruned" if loss is None else f"val loss {loss:.4g}"
    settings = " ".join(f"{key}={value}" for key, value in changes.items())
    print(f"trial {trial.number}: {result}; {settings}", flush=True)


def open_study(
    name: str, space: Space, storage: str | None, project: Path = Path(), commit: str = "HEAD"
) -> optuna.Study:
    """Open the study `name`, or create it.

    Args:
        name: Its name.
        space: Its search space.
        storage: See `search`.
        project: The folder whose params.yaml its trials start from.
        commit: The revision that they run.

    Raises:
        UserError: The storage cannot be used, or the study was begun with another space or commit.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / f"{name}.log"
    where = f"--storage {without_password(storage)}" if storage else str(log)
    try:
        study = optuna.create_study(
            study_name=name,
            storage=opened(storage) if storage else optuna.storages.JournalStorage(JournalFileBackend(str(log))),
            sampler=optuna.samplers.TPESampler(seed=None, constant_liar=True),
            pruner=_pruner(value_at(params.read(project / params.PARAMS), f"{space.stage}.epochs")),
            direction="minimize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, OSError, ValueError) as error:
        remedy = "name a database" if storage else "move it away"
        if isinstance(error, ImportError):
            remedy = "install its driver; requirements/extras/tune.txt has that of PostgreSQL"
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{where} cannot hold the study ({reason}): {remedy}") from None
    _check_inputs(study, name, space, commit)
    return study


def _pruner(epochs: Any) -> optuna.pruners.BasePruner:
    """What stops trials early. A training that is not made of epochs (None) says nothing before its end, and is not stopped."""
    if not isinstance(epochs, int):
        return optuna.pruners.NopPruner()
    # The val loss varies much while the learning rate is high, so that only the worst quarter of the trials is pruned.
    return optuna.pruners.PercentilePruner(75.0, n_startup_trials=4, n_warmup_steps=epochs // 3)


def opened(storage: str) -> optuna.storages.BaseStorage:
    """The database `storage`. Several workers may make its tables at the same time: all but one fail, and then find them."""
    for _ in range(TRIES):
        with contextlib.suppress(IntegrityError, ProgrammingError):
            return optuna.storages.get_storage(storage)
        time.sleep(random.uniform(0.1, 1))
    return optuna.storages.get_storage(storage)


def without_password(storage: str) -> str:
    """The URL of a database as it may be printed: with *** for the password, and without options, which may hold one, too.

    Raises:
        UserError: SQLAlchemy cannot read it, so that nobody knows which part of it is the password.
    """
    try:
        url = make_url(storage)
    except (SQLAlchemyError, ValueError):
        url = None
    if url is None or "@" in (url.host or ""):
        raise UserError(
            "--storage is not the URL of a database: write it as scheme://user:password@host/name, with %40, %3A and %2F for "
            "each @, : and / of the password"
        )
    return url.set(query={}).render_as_string(hide_password=True)


def _check_inputs(study: optuna.Study, name: str, space: Space, commit: str) -> None:
    """Record what the trials of the study depend on, or compare it with what was recorded when the study was begun.

    Raises:
        UserError: The study was begun with another space or commit.
    """
    inputs = {
        "search space": space.model_dump_json(),
        "params, data or code": git.read("rev-parse", *(f"{commit}:./{path}" for path in INPUTS)),
    }
    for key, value in inputs.items():
        if study.user_attrs.get(key, value) != value:
            raise UserError(f"the study '{name}' was begun with other {key}: give this one another --name")
        study.set_user_attr(key, value)


def recover(study: optuna.Study) -> None:
    """Queue the params of killed trials again. A trial was killed if it is marked as running but nobody uses its clone.

    The lock of the clone tells: the system releases it when its process ends, and another process may get the number of that
    one. Trials of other machines are left alone.
    """
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        where = trial.user_attrs.get("host"), str(trial.user_attrs.get("lock", ""))
        if where[0] == socket.gethostname() and not clone.in_use(Path(where[1])):
            # Another worker may have marked it as failed already.
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
            study.enqueue_trial(trial.params)


def propose(trial: optuna.Trial, key: str, dimension: Dimension, default: Any) -> Any:
    """Let Optuna propose a value of one param. Its `default`, which params.yaml has, is taken as it is, with all its digits."""
    if dimension.choices:
        return trial.suggest_categorical(key, dimension.choices)
    low, high = dimension.low, dimension.high
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=dimension.log)
    value = trial.suggest_float(key, low, high, log=dimension.log)
    return value if value == default else min(max(float(f"{value:.3g}"), low), high)  # three digits are enough


def ran(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """The params that a trial was run with, by dotted key."""
    found: dict[str, Any] = trial.user_attrs.get(RAN, trial.params)
    return found


def attempt(trial: optuna.Trial, head: clone.Clone, stage: str, name: str, changes: Mapping[str, Any]) -> float | None:
    """Run one trial in the clone `head`, as the DVC experiment `name`, and return the val loss of its chosen epoch.

    Returns None if the pruner stopped the trial or if the training diverged.

    Raises:
        UserError: The trial failed for another reason.
    """
    settings = [word for key, value in changes.items() for word in ("--set-param", f"{key}={json.dumps(value)}")]
    command = ["exp", "run", "--temp", "--name", name, *settings, stage]
    lines: list[str] = []
    with head.start(*command) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                if found := EPOCH.match(line):
                    trial.report(float(found[2]), int(found[1]))
                    if trial.should_prune():
                        return None
        finally:
            members.stop(process)
    if process.returncode:
        reason = members.why(lines)
        if DIVERGED in reason:
            return None
        trial.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        raise UserError(
            f"trial {trial.number} failed ({reason}): correct the search space or params.yaml, or choose another --name"
        )
    return float(json.loads(git.show(head.hand_over(name), f"metrics/{stage}.json") or b"{}")["val_loss"])


def experiment(study: str, number: int) -> str:
    """The name of a trial's experiment."""
    return f"tune-{study}-{number}"


def complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that were not stopped early, sorted by val loss."""
    found = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    return sorted(found, key=lambda trial: (trial.value, trial.number))


def as_markdown(study: optuna.Study, name: str, stage: str, defaults: Mapping[str, Any]) -> str:
    """The table of all trials that were not stopped early, the best one first, and whether and how to apply the best one.

    Args:
        study: The study.
        name: Its name.
        stage: The stage whose params it searches.
        defaults: The params in params.yaml. The trial with these is marked.
    """
    done = complete(study)
    keys = sorted({key for trial in done for key in ran(trial)})
    lines = [f"| trial | val loss | {' | '.join(keys)} |", "|---|---:|" + "---:|" * len(keys)]
    for trial in done:
        shown = (str(ran(trial)[key]) for key in keys)
        number = f"{trial.number}, as they are" if ran(trial) == defaults else str(trial.number)
        lines.append(f"| {number} | {trial.value:.4g} | {' | '.join(shown)} |")
    stopped = len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.PRUNED]))
    lines += ["", f"{len(done)} trials ran to their end, {stopped} were stopped early. Only val was looked at."]
    if done and ran(done[0]) == defaults:
        lines += ["", "None is better than the params as they are."]
    elif done:
        lines += ["", advice(done, name, stage, defaults, len(done) + stopped - 1)]
    return "\n".join(lines) + "\n"


def advice(
    done: list[optuna.trial.FrozenTrial], name: str, stage: str, defaults: Mapping[str, Any], trials: int
) -> str:
    """Whether the best trial is better than the params as they are by more than chance, and how to take it if it may be.

    Args:
        done: The trials that were not stopped early, the best one first.
        name: Of the study.
        stage: The stage whose params it searches.
        defaults: The params in params.yaml.
        trials: How many were tried besides these.
    """
    best, start = done[0], next((trial for trial in done if ran(trial) == defaults), None)
    how = how_to_take(best, experiment(name, best.number))
    try:
        commits = [dvc.experiments(experiment(name, one.number)) for one in (start, best) if one]
        if len(commits) < 2 or not all(commits):
            raise UserError("the params as they are were not tried, or one of the two models is not here")
        base, head = (next(iter(found.values())) for found in commits)
        found = gain.measure(base, head, stage.removeprefix("train_"), max(1, trials))
    except UserError as error:
        return f"It is not known whether the best one is better than the params as they are by more than chance ({error}). {how}"
    by = f"The val loss of trial {best.number} is {found.value:.4f} lower than that of the params as they are"
    interval = f"{found.low:.4f} to {found.high:.4f}, adjusted for the number of trials"
    if found.low > 0:
        return f"{by} ({interval}): more than chance. {how}"
    return f"{by} ({interval}), which may be chance: nothing speaks for other params than those that there are."


def how_to_take(trial: optuna.trial.FrozenTrial, name: str) -> str:
    """How to get the params and the model of a trial, whose experiment may lie in another clone."""
    if dvc.experiments(name):
        return f"Take the best one: `dvc exp apply {name}`, then `dvc repro`."
    host = trial.user_attrs.get("host", "another machine")
    settings = " ".join(f"-S {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in ran(trial).items())
    return (
        f"The best one was run on {host} in `{trial.user_attrs.get('folder', 'another folder')}`. Train it again here, with "
        f"the same bytes: `dvc exp run {settings}`. Or there `dvc exp push origin {name}`, here `dvc exp pull origin {name}` "
        f"and `dvc exp apply {name}`; this needs a DVC remote."
    )


def draw(study: optuna.Study, name: str) -> None:
    """Draw the chart of a study: the val loss of each trial and, from four trials on, the importance of each param.

    The importance is that of fANOVA (Hutter et al. 2014).
    """
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
            axes[1].set(xlabel="share of the variance", xlim=(0, 1))
            axes[1].invert_yaxis()
    print(f"{path} has a chart of the search")
