"""Experiments, seeds and the search, on a real repository."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
import yaml

from conftest import (
    RUN,
    build_once,
    commit,
    copy_of,
    copy_project,
    darkroom,
    run,
    set_params,
    sign,
    surroundings,
    wait_until_none,
    write_digits,
)
from darkroom.evaluation import means
from darkroom.experiments import answers, clone, gain, members, seeds, tune
from darkroom.experiments.answers import Asked
from darkroom.experiments.search_space import Dimension, Space
from darkroom.system import dvc, lock, parallel
from darkroom.system.errors import UserError

# Stands in for the stages, so that an experiment takes no longer than DVC needs. MEANWHILE is what the user does while it runs.
STAGE = """
import json, os, subprocess, sys
from pathlib import Path
import yaml
subprocess.run(os.environ.get("MEANWHILE", "true"), shell=True, check=True)
params = yaml.safe_load(Path("params.yaml").read_text())
value = params["train_scratch"]["lr"] + params["run"]["seed"] / 100
results = {
    "train_scratch": {"val_loss": value},
    "evaluate": {
        "count": 9,
        **{name: {"title": name, "accuracy": {"value": value}, "per_class": {}} for name in params["models"]},
    },
}
Path("metrics").mkdir(exist_ok=True)
Path(f"metrics/{sys.argv[1]}.json").write_text(json.dumps(results[sys.argv[1]]))
"""
LR = 0.05  # train_scratch.lr as committed

# Runs when Python starts. DVC writes repro.dat when it has set the params of an experiment but not yet put them back.
KILL = """
import os, signal, sys
def hook(event, args):
    if event == "open" and str(args[0]).endswith("repro.dat"):
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a project in a folder, whose stages are STAGE. Its results are those of another learning rate."""

    def build(folder: Path) -> None:
        repository = folder / "staged"
        project = repository / "a project"
        copy_project(project)
        (project / "stage.py").write_text(STAGE)
        write_digits(project / "data/raw", 1)
        stages = {
            name: {
                "cmd": f"python stage.py {name}",
                "deps": ["stage.py", "data/raw"],
                "params": ["run", "train_scratch"],
                "metrics": [{f"metrics/{name}.json": {"cache": False}}],
            }
            for name in ("train_scratch", "evaluate")
        }
        (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        set_params(project, {"train_scratch": {"lr": 0.9}})
        run("git", "init", "-q", "-b", "main", cwd=repository)
        sign(repository)
        run("dvc", "add", "-q", "data/raw", cwd=project)
        run("dvc", "repro", "-q", cwd=project)
        set_params(project, {"train_scratch": {"lr": LR}})
        commit(project, "A project")

    return build_once(tmp_path_factory, "staged", build) / "staged"


@pytest.fixture
def quick(staged: Path, tmp_path: Path) -> Path:
    """The project in a copy of `staged`, to work in."""
    return copy_of(staged, tmp_path / "a repository") / "a project"


def meanwhile(project: Path) -> str:
    """A command that commits another learning rate and number of epochs in `project`, and then edits the seed."""
    edits = [("lr: [0-9.]*", "lr: 0.5"), ("epochs: .*", "epochs: 77"), ("seed: 1$", "seed: 900")]
    lr, epochs, seed = (f"sed -i 's/^\\( *\\){old}/\\1{new}/' params.yaml" for old, new in edits)
    return f"cd '{project}' && {lr} && {epochs} && git commit -q --allow-empty -am Meanwhile && {seed} && echo '#' >> params.yaml"


def experiments(project: Path) -> dict[tuple[str, str], str]:
    """The commits of all experiments, by the commit that each was run on and its name."""
    lines = run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps", cwd=project).splitlines()
    found = (line.removeprefix("refs/exps/").split() for line in lines)
    # as ab/cdef.../name
    return {("".join(name.split("/")[:2]), name.split("/")[2]): there for name, there in found if name.count("/") == 2}


def committed(project: Path, revision: str, path: str) -> Any:
    """The content of a YAML or JSON file in a commit."""
    return yaml.safe_load(run("git", "show", f"{revision}:./{path}", cwd=project))


def command_lines(project: Path) -> list[str]:
    """Those of the processes that work in `project`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(project):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended, or is another user's
            continue
    return found


SPACE = """
stage: train_scratch
params:
  train_scratch.lr: {low: 0.000001, high: 0.3, log: true}
  train_scratch.ema: {choices: [0.0, 0.5]}
"""


def test_the_search_goes_on_after_it_was_killed(small: Path) -> None:
    (small / "tune.yaml").write_text(SPACE)
    search = ("darkroom", "tune", "--name", "tried", "--trials")
    process = subprocess.Popen([*search, "9"], cwd=small, env=surroundings(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert next(process.stdout).startswith("trial 0: val loss")
    wait_until_none(lambda: [] if any("train_scratch" in one for one in command_lines(small)) else [small])
    process.kill()  # in the midst of the training of trial 1
    process.wait()
    wait_until_none(lambda: [small] if command_lines(small) else [])
    printed = run(*search, "2", cwd=small)
    assert "trial 1" not in printed  # the killed one is told as failed, and its params are tried under another number
    assert "| 0, as they are |" in printed
    assert "Only val was looked at." in printed
    assert (
        "None is better than the params as they are." in printed
        or "lower than that of the params as they are" in printed
    )
    by_name = {name: there for (_, name), there in experiments(small).items()}
    zero, two = (by_name[f"tune-tried-{number}"] for number in (0, 2))
    before, after = (committed(small, there, "metrics/train_scratch.json")["val_loss"] for there in (zero, two))
    with contextlib.chdir(small):
        found = gain.measure(zero, two, "scratch", 3)
    assert found.value == pytest.approx(before - after, abs=2e-5)  # of the models themselves
    assert found.low < found.value < found.high
    run("dvc", "exp", "apply", "tune-tried-2", cwd=small)
    assert (small / ".darkroom/tune/tried.png").stat().st_size > 10_000
    changed = run("git", "diff", "--name-only", cwd=small)
    assert "metrics/train_scratch.json" in changed
    assert "predictions" not in changed  # test was never read

    run("git", "checkout", "-q", ".", cwd=small)
    (small / "tune.yaml").write_text(SPACE.replace("0.3", "0.4"))
    assert "was begun with other search space" in run(*search, "1", cwd=small, code=2)


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of an empty PostgreSQL database on loopback."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed here (apt install postgresql)")
    with tempfile.TemporaryDirectory(prefix="postgres-") as temporary, socket.socket() as free:
        folder = Path(temporary)
        someone: list[str | Path] = []
        if os.getuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
            someone = ["runuser", "-u", "postgres", "--"]
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        run(*someone, programs[-1] / "initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres", cwd=folder)
        server = [*someone, programs[-1] / "pg_ctl", "-D", folder / "data", "-w"]
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        run(*server, "-l", folder / "log", "-o", options, "start", cwd=folder)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run(*server, "-m", "fast", "stop", cwd=folder)


def test_two_clones_share_a_search_in_a_database_and_one_is_killed(small: Path, tmp_path: Path, database: str) -> None:
    """Both find the database empty. No trial is lost, none is run twice, and both say how to get the best one."""
    clones = [small, copy_of(small, tmp_path / "other clone")]
    for each in clones:
        (each / "tune.yaml").write_text(SPACE)
    search = ("darkroom", "tune", "--name", "shared", "--storage", database, "--trials")
    first, second = (
        subprocess.Popen(
            [*search, "3"], cwd=each, env=surroundings(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for each in clones
    )
    assert first.stdout is not None
    assert next(line for line in first.stdout if line.startswith("trial"))
    first.kill()
    first.communicate()
    printed, _ = second.communicate()
    assert second.returncode == 0, printed
    printed = run(*search, "2", cwd=small)

    study = optuna.load_study(study_name="shared", storage=database)
    ended = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert [trial.number for trial in study.trials if trial.state.name == "RUNNING"] == []
    assert len(ended) == 1 + 3 + 2
    assert len({str(trial.params) for trial in ended}) == len(ended)
    kept = [{name for _, name in experiments(each)} for each in clones]
    complete = {f"tune-shared-{trial.number}" for trial in ended if trial.state.name == "COMPLETE"}
    assert complete == kept[0] | kept[1]
    assert not kept[0] & kept[1]
    best = f"tune-shared-{study.best_trial.number}"
    here, there = f"dvc exp apply {best}`, then", f"in `{clones[1]}`. Train it again here"
    not_taken = "None is better" in printed or "which may be chance" in printed
    assert not_taken or (here if best in kept[0] else there) in printed


@pytest.mark.fast
@pytest.mark.parametrize("low", [-0.01, 0.00005])
def test_a_gain_that_may_be_chance_is_not_recommended(low: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gain, "measure", lambda base, best, *_: means.Mean(0.0001, low, 0.02, 0.5) if base != best else None
    )
    monkeypatch.setattr(dvc, "experiments", lambda name: {"HEAD": name})
    best, start = (optuna.trial.create_trial(params={}, value=value) for value in (0.3999, 0.4))
    best.params, start.params, best.number, start.number = {"lr": 1}, {"lr": 2}, 7, 0
    said = tune.advice([best, start], "x", "train_scratch", {"lr": 2}, 4)
    assert ("dvc exp apply tune-x-7" in said) == (low > 0)
    assert ("may be chance" in said) == (low < 0)
    monkeypatch.setattr(dvc, "experiments", lambda name: {"HEAD": name} if name == "tune-x-7" else {})
    assert tune.advice([best, start], "x", "train_scratch", {"lr": 2}, 4).startswith("It is not known whether")


LR_SPACE = Space(
    stage="train_linear",
    params={"train_linear.lr": Dimension(low=0.001, high=0.3), "train_linear.c": Dimension(low=1, high=9)},
)


@pytest.mark.fast
def test_what_is_printed_of_a_trial_is_what_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The params as they are run with all their digits, and other ones with three."""
    ran: list[dict[str, Any]] = []

    def attempt(*arguments: Any) -> float:
        ran.append(arguments[-1])
        return 0.5 - len(ran) / 10

    monkeypatch.setattr(tune, "attempt", attempt)
    monkeypatch.setattr(dvc, "experiments", lambda _: {})
    defaults = {"train_linear.lr": 0.0015625, "train_linear.c": 3}
    study = optuna.create_study()
    study.enqueue_trial(defaults)
    study.enqueue_trial({"train_linear.lr": 0.0123456, "train_linear.c": 4})
    for _ in range(2):
        tune.try_one(study, "x", LR_SPACE, clone.Clone(Path(), "", Path("lock")), defaults)
    assert ran == [defaults, {"train_linear.lr": 0.0123, "train_linear.c": 4}]
    printed = tune.as_markdown(study, "x", "train_linear", defaults)
    assert "| 0, as they are | 0.4 | 3 | 0.0015625 |\n" in printed
    assert "| 1 | 0.3 | 4 | 0.0123 |\n" in printed
    assert "`dvc exp run -S train_linear.lr=0.0123 -S train_linear.c=4`" in printed


@pytest.mark.fast
def test_a_training_without_epochs_is_not_stopped_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of docs/how-to/add-a-model.md."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "_check_inputs", lambda *_: None)
    (tmp_path / "params.yaml").write_text("train_linear: {lr: 0.1, c: 3}")
    study = tune.open_study("x", LR_SPACE, None)
    assert isinstance(study.pruner, optuna.pruners.NopPruner)
    (tmp_path / "params.yaml").write_text("train_linear: {lr: 0.1, c: 3, epochs: 9}")
    assert isinstance(tune.open_study("x", LR_SPACE, None).pruner, optuna.pruners.PercentilePruner)


class Deadly:
    """Ends the process that it is sent to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_models_that_do_not_fit_into_memory() -> None:
    """The system then kills the process that asks them."""
    with pytest.raises(
        UserError, match=r"was killed, .*: free memory, and run the command again; finished runs are kept"
    ):
        answers.of([cast(Asked, Deadly())])


@pytest.mark.fast
def test_the_stages_own_reason_is_told() -> None:
    """DVC has the last word, but knows no more than the exit code."""
    stage, last = (
        "darkroom train_scratch: the training diverged in epoch 2",
        "ERROR: failed to reproduce 'train_scratch'",
    )
    assert members.why([f"{stage}\n", "\n", f"{last}\n", "hints\n"]) == stage
    assert members.why([f"{last}\n", "hints\n"]) == last


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nowhere", "--storage is not the URL of a database"),
        ("sqlite:////no folder/x.db", "--storage sqlite:////no folder/x.db cannot hold the study ("),
        ("mysql://me:s3cret@example.org/x", "--storage mysql://me:***@example.org/x cannot hold the study ("),
        ("mysql://example.org/x?password=s3cret", "--storage mysql://example.org/x cannot hold the study ("),
        ("mysql:me:s3cret@example.org/x", "--storage is not the URL of a database"),
        ("mysql://me:an@s3cret@example.org/x", "--storage is not the URL of a database"),
        ("mysql://me:an@s3cret:s3cret@example.org/x", "--storage is not the URL of a database"),
    ],
)
def test_storages_that_are_refused(storage: str, message: str, digits: Path) -> None:
    (digits / "tune.yaml").write_text(SPACE)
    commit(digits, "A space")
    printed = darkroom("tune", "--storage", storage, cwd=digits, code=2)
    assert message in printed
    assert "s3cret" not in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.fast
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: evaluate\nparams: {}", "stage"),
        (
            "stage: train_scratch\nparams: {train_scratch.hope: {low: 0, high: 1}}",
            "params.train_scratch.hope: params.yaml has no such param",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.lr: {low: 1, high: 0}}",
            "params.train_scratch.lr: name a param",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.lr: {low: 0, high: 1, log: true}}",
            "params.train_scratch.lr: name a param",
        ),
        (
            "stage: train_scratch\nparams: {train_finetune.lr: {low: 0.1, high: 1}}",
            "only params of train_scratch can be searched",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.batch_size: {low: 1.5, high: 4}}",
            "params.train_scratch.batch_size cannot be 1.5 (Input should be a valid integer",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.dropout: {choices: [0.1, 1.5]}}",
            "params.train_scratch.dropout cannot be 1.5 (Input should be less than 1)",
        ),
        (
            "stage: train_scratch\nparams: {train_scratch.schedule: {choices: [2024-01-01]}}",
            "params.train_scratch.schedule.choices.0",
        ),
        ("- a", "mend it"),
        (": :", "not valid YAML"),
    ],
)
def test_search_spaces_that_are_refused(text: str, message: str, folder: Path) -> None:
    (folder / "tune.yaml").write_text(text)
    printed = darkroom("tune", cwd=folder, code=2)
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.fast
def test_a_training_of_the_users_own_cannot_be_searched(folder: Path) -> None:
    (folder / "dvc.yaml").write_text("stages: {train_mine: {cmd: python my.py}}")
    (folder / "tune.yaml").write_text("stage: train_mine\nparams: {train_mine.lr: {low: 0.1, high: 1}}")
    assert "'train_mine' has no file in src/darkroom/stages" in darkroom("tune", cwd=folder, code=2)


@pytest.mark.fast
def test_names_of_studies_that_are_refused(folder: Path) -> None:
    for name in ("../evil", "a b", "", "-x"):
        printed = darkroom("tune", f"--name={name}", cwd=folder, code=2)
        assert "use letters, digits, - and _ alone" in printed
    assert not list(folder.rglob("*.log"))


@pytest.mark.fast
def test_detectable_difference_is_the_textbooks() -> None:
    """Cohen 1988, table 2.4.1: 17 in each group find d = 1 with power 0.80; 64 find d = 0.5."""
    assert seeds.detectable(1.0, 17) == pytest.approx(1.0, abs=0.02)
    assert seeds.detectable(1.0, 64) == pytest.approx(0.5, abs=0.005)


def test_an_experiment_in_a_temporary_copy_gives_the_same_bytes(small: Path) -> None:
    """What `dvc exp run --temp` makes anew in its own folder, against the work tree's. Only a param of stats differs."""
    change = "stats.contact_sheet=5"
    printed = run("dvc", "exp", "run", "--temp", "--force", "-n", "other", "-S", change, cwd=small)
    here = lock.read(small)
    assert all(f"Running stage '{name}'" in printed for name in here)
    reference = run("git", "for-each-ref", "--format=%(refname)", "refs/exps", cwd=small).splitlines()
    other = next(name for name in reference if name.endswith("/other"))
    there = lock.parse(run("git", "show", f"{other}:dvc.lock", cwd=small))
    changed = {
        path
        for name, stage in here.items()
        for path, md5 in lock.outs(stage).items()
        if lock.outs(there[name])[path] != md5
    }
    assert changed == {"plots/contact_sheets"}


def test_seeds_run_the_commit_that_they_began_with(quick: Path) -> None:
    head = run("git", "rev-parse", "HEAD", cwd=quick).strip()
    printed = run("darkroom", "seeds", "--count", "2", cwd=quick, MEANWHILE=meanwhile(quick))
    assert run("git", "log", "-1", "--format=%s", cwd=quick).strip() == "Meanwhile"
    found = experiments(quick)
    assert found.keys() == {(head, f"seed-{seed}-{head[:7]}") for seed in (1, 2)}
    for (_, name), there in found.items():
        params = committed(quick, there, "params.yaml")
        assert params["train_scratch"] == committed(quick, head, "params.yaml")["train_scratch"]
        assert params["run"]["seed"] == int(name.split("-")[1])
    assert f"| {LR + 0.01:.3f} to {LR + 0.02:.3f} |" in printed
    assert run("git", "diff", "--name-only", "--relative", cwd=quick).split() == ["params.yaml"]  # as the user left it

    run("git", "checkout", "-q", "--detach", head, "--force", cwd=quick)
    (quick / "params.yaml").write_text("run: {seed: 700}")
    again = run("darkroom", "seeds", "--count", "2", cwd=quick)
    assert f"There are changes that are not committed. They are left out: HEAD ({head[:7]}) is run." in again
    assert again.endswith(printed[printed.index("2 seeds from 1 on") :])
    assert f"those of commit {head[:7]}" in again
    assert "Running stage" not in again
    assert not list((quick / ".darkroom/clones").glob("*/"))


def test_seeds_run_side_by_side(quick: Path, tmp_path: Path) -> None:
    """A stage waits until two stages have begun."""
    begun = tmp_path / "begun"
    begun.mkdir()
    both = f"""touch "{begun}/$$"; for _ in $(seq 300); do [ $(ls "{begun}" | wc -l) -ge 2 ] && exit; sleep 0.1; done; exit 1"""
    printed = run("darkroom", "seeds", "--count", "2", "--jobs", "2", cwd=quick, MEANWHILE=both)
    assert "2 runs at a time" in printed
    assert {name.split("-")[1] for _, name in experiments(quick)} == {"1", "2"}
    assert f"| {LR + 0.01:.3f} to {LR + 0.02:.3f} |" in printed


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_seeds_that_are_killed_or_fail_keep_what_was_finished(sent: signal.Signals, quick: Path) -> None:
    seeds = ("darkroom", "seeds", "--count", "3", "--jobs", "2")
    third = "grep -q 'seed: 3$' params.yaml &&"
    process = subprocess.Popen(seeds, cwd=quick, env=surroundings(MEANWHILE=f"{third} sleep 600 || true"))
    wait_until_none(lambda: [] if len(experiments(quick)) == 2 else [quick])
    process.send_signal(sent)
    process.wait(40)
    wait_until_none(lambda: [quick] if command_lines(quick) else [])  # the third one ends, too
    assert len(experiments(quick)) == 2
    assert bool(list((quick / ".darkroom/clones").glob("*/"))) == (sent == signal.SIGKILL)

    printed = run(*seeds, cwd=quick, code=2, MEANWHILE=f"{third} exit 7 || true")
    last = printed.splitlines()[-1]
    assert last.startswith("darkroom: seed 3 failed (")
    assert last.endswith("correct the cause, and run the command again; finished runs are kept")
    printed = run(*seeds, cwd=quick)
    assert printed.count("Running stage 'train_scratch'") == 1
    assert len(experiments(quick)) == 3
    assert not list((quick / ".darkroom/clones").glob("*/"))


def test_the_table_of_experiments_fits_a_screen(quick: Path) -> None:
    run("dvc", "exp", "run", "-q", "--name", "faster", "-S", "train_scratch.lr=0.02", cwd=quick)
    run("git", "checkout", "-q", "--", ".", cwd=quick)
    printed = run("darkroom", "experiments", cwd=quick)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    assert rows[0] == ["experiment", "changed", "scratch", "finetune"]
    assert [row[:3] for row in rows[3:]] == [
        ["`HEAD`", "", rows[3][2]],
        ["`faster`", "`train_scratch.lr=0.02`", "0.030"],
    ]


@pytest.mark.fast
def test_runs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    run_params = RUN.model_copy(update={"threads": 2, "shards": 4})
    monkeypatch.delenv(members.WORKERS)
    for cores, asked, jobs, workers in [(2, None, 1, 0), (8, None, 4, 1), (16, 2, 2, 4), (64, 2, 2, 4), (2, 3, 3, 1)]:
        monkeypatch.setattr(parallel, "cores", lambda cores=cores: cores)
        assert members.share(run_params, 5, asked) == (jobs, {members.WORKERS: str(workers)} if workers else {})
    monkeypatch.setattr(parallel, "cores", lambda: 16)
    assert members.share(run_params, 2, None) == (2, {members.WORKERS: "4"})
    assert members.share(run_params.model_copy(update={"device": "cuda"}), 5, None) == (1, {})
    monkeypatch.setenv(members.WORKERS, "2")
    assert members.share(run_params, 9, None) == (4, {})
    monkeypatch.setenv("NNODES", "2")
    with pytest.raises(
        UserError, match="NNODES is set, but other machines can join trainings of the committed params alone"
    ):
        members.refuse_machines()


def test_seeds_of_a_project_whose_dvc_cannot_be_used(quick: Path) -> None:
    (quick / ".dvc/config").write_text("[")
    assert f"DVC cannot be used in {quick}: mend the cause" in darkroom("seeds", "--count", "2", cwd=quick, code=2)
    assert not list((quick / ".darkroom/clones").glob("*/"))


def test_a_clone_is_in_use_as_long_as_its_process(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(quick)
    with clone.of_head() as head:
        assert clone.in_use(head.lock)
    assert not clone.in_use(head.lock)
    head.lock.touch()  # of a process that was killed
    assert not clone.in_use(head.lock)


def test_a_trial_runs_the_commit_that_the_search_began_with(quick: Path) -> None:
    (quick / "tune.yaml").write_text(SPACE)
    head = run("git", "rev-parse", "HEAD", cwd=quick).strip()
    start = committed(quick, head, "params.yaml")
    printed = run("darkroom", "tune", "--trials", "2", cwd=quick, MEANWHILE=meanwhile(quick))
    assert run("git", "log", "-1", "--format=%s", cwd=quick).strip() == "Meanwhile"
    found = experiments(quick)
    assert found.keys() == {(head, "tune-search-0"), (head, "tune-search-1")}
    for there in found.values():
        params = committed(quick, there, "params.yaml")
        assert params["run"] == start["run"]
        assert params["train_scratch"]["epochs"] == start["train_scratch"]["epochs"]
        assert f"{committed(quick, there, 'metrics/train_scratch.json')['val_loss']:.4g}" in printed
    assert f"| 0, as they are | {LR + 0.01:.4g} |" in printed


def test_a_search_that_is_killed_leaves_the_work_tree_as_it_was(quick: Path, tmp_path: Path) -> None:
    """Also while DVC sets up a trial. The next search removes what it left."""
    (tmp_path / "kill").mkdir()
    (tmp_path / "kill/sitecustomize.py").write_text(KILL)
    (quick / "tune.yaml").write_text(SPACE)
    commit(quick, "A search space")
    search = ("darkroom", "tune", "--trials", "1")
    run(*search, cwd=quick, code=-signal.SIGKILL, PYTHONPATH=str(tmp_path / "kill"))
    assert run("git", "status", "--porcelain", cwd=quick) == ""
    left = list((quick / ".darkroom/clones").glob("*/"))
    assert left  # so DVC was in the midst of it
    shutil.rmtree(quick / ".dvc/cache")  # the images are in the work tree alone, as after a clone and `darkroom demo`
    printed = run(*search, cwd=quick)
    assert "trial 1: val loss" in printed
    assert not list((quick / ".darkroom/clones").glob("*/"))
    run("dvc", "exp", "apply", "tune-search-1", cwd=quick)
    assert "tune-search-1" in run("dvc", "exp", "show", "--md", cwd=quick)
