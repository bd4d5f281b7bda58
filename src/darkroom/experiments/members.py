"""Several experiments of one commit: those that there are already are kept, and the others are run, several at a time if asked.

DVC's queue is not used: its workers race. Each experiment that runs at the same time as others has a clone of its own. In one
repository DVC refuses to set up two at the same moment (`dvc.rwlock`), instead of letting one wait.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from darkroom.experiments import clone
from darkroom.experiments.clone import Clone
from darkroom.system import dvc, parallel, params
from darkroom.system.errors import UserError

PATIENCE = 30  # seconds that DVC has to remove the temporary copy of an experiment that is stopped
LAST_WORDS = 5  # seconds that are waited for what an experiment has printed
WORKERS = "DARKROOM_WORKERS"


@dataclass(frozen=True)
class Member:
    """One of several experiments.

    Attributes:
        name: Of the experiment.
        about: What messages call it.
        settings: Params, each as KEY=VALUE.
        stages: Which are run, with all that they depend on. Without any, all stages are.
    """

    name: str
    about: str
    settings: Sequence[str]
    stages: Sequence[str] = ()


@dataclass(frozen=True)
class _Running:
    member: Member
    clone: Clone
    process: subprocess.Popen[str]
    reader: threading.Thread
    lines: list[str] = field(default_factory=list)


def run(members: Sequence[Member], head: Clone, jobs: int | None) -> list[str]:
    """The commits of the experiments `members` of the commit of `head`, in order. Those that there are not yet are run.

    Args:
        members: The experiments.
        head: A clone that is used for nothing else meanwhile.
        jobs: How many run at a time; None: as many as the cores allow.

    Raises:
        UserError: One failed. Those that ran with it were run to their end, and are kept. Or NNODES is set.
    """
    refuse_machines()
    missing = [member for member in members if head.commit not in dvc.experiments(member.name)]
    if missing:
        with ExitStack() as stack:
            with contextlib.chdir(head.root):
                settings = params.load("run", params.Run)
            count, variables = share(settings, len(missing), jobs)
            others = [stack.enter_context(clone.of(head.commit)) for _ in range(count - 1)]
            if others:
                print(f"{count} runs at a time", flush=True)
            _run_all(missing, [head, *others], variables)
    return [dvc.experiments(member.name)[head.commit] for member in members]


def refuse_machines() -> None:
    """Refuse to share each training with other machines: these would have the params of the commit, and not those of the run.

    Raises:
        UserError: NNODES asks for it.
    """
    if os.environ.get("NNODES", "1") != "1":
        raise UserError(
            "NNODES is set, but other machines can join trainings of the committed params alone: unset it; "
            "docs/how-to/search.md says how several machines share a search"
        )


def share(run: params.Run, count: int, asked: int | None) -> tuple[int, dict[str, str]]:
    """How many of `count` runs take place at a time, and variables by which their trainings share the cores.

    A training uses `run.threads` cores for each of its workers. By default there are as many runs as cores for a worker each, and
    one on a GPU.

    Args:
        run: The section of params.yaml.
        count: Of the runs.
        asked: How many the user wants at a time.
    """
    cores, given = parallel.cores(), os.environ.get(WORKERS, "")
    own = int(given) if given.isdecimal() else 0
    alone = run.device == "cuda"
    fitting = 1 if alone else max(1, cores // (max(own, 1) * run.threads))
    jobs = min(asked or fitting, count)
    if jobs == 1 or own:
        return jobs, {}
    most = 1 if alone else max(1, min(cores // (jobs * run.threads), run.shards))
    return jobs, {WORKERS: str(1 << (most.bit_length() - 1))}


def _run_all(members: Sequence[Member], clones: Sequence[Clone], variables: Mapping[str, str]) -> None:
    """Run the experiments, one in each of the clones at a time. The arguments are those of `run` and `share`.

    Raises:
        UserError: One failed. None is started after that.
    """
    waiting, free = deque(members), list(clones)
    running: list[_Running] = []
    failed: list[UserError] = []
    try:
        while running or (waiting and not failed):
            while waiting and free and not failed:
                running.append(_start(waiting.popleft(), free.pop(), variables, several=len(clones) > 1))
            for ended in [one for one in running if one.process.poll() is not None]:
                running.remove(ended)
                free.append(ended.clone)
                try:
                    _take(ended)
                except UserError as error:
                    failed.append(error)
            time.sleep(0.05)
    finally:
        stop(*(one.process for one in running))
    if failed:
        raise failed[0]


def _start(member: Member, own: Clone, variables: Mapping[str, str], several: bool) -> _Running:
    """Start an experiment in the clone `own`. Its lines are printed, with its name before them if there are `several`."""
    settings = [word for setting in member.settings for word in ("--set-param", setting)]
    process = own.start("exp", "run", "--temp", "--name", member.name, *settings, *member.stages, variables=variables)
    lines: list[str] = []
    before = f"{member.about}: " if several else ""

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)
            print(f"{before}{line}", end="", flush=True)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return _Running(member, own, process, reader, lines)


def _take(ended: _Running) -> None:
    """Copy an experiment that has ended to the user's repository.

    Raises:
        UserError: It failed.
    """
    ended.reader.join(LAST_WORDS)
    if ended.process.returncode:
        raise UserError(
            f"{ended.member.about} failed ({why(ended.lines)}): correct the cause, and run the command again; finished runs are "
            "kept"
        )
    ended.clone.hand_over(ended.member.name)


def why(lines: Sequence[str]) -> str:
    """The reason for a failure, from the printed `lines`: the stage's message, else DVC's message, else the last line."""
    printed = [line.strip() for line in lines if line.strip()] or ["no reason given"]
    messages = (line for start in ("darkroom ", "ERROR: ") for line in reversed(printed) if line.startswith(start))
    return next(messages, printed[-1])


def stop(*processes: subprocess.Popen[str]) -> None:
    """End DVC and the stages that it runs, each of the `processes` with its group.

    DVC is interrupted, so that it can remove its temporary copy of the project. It is killed if it takes longer than `PATIENCE`.
    """
    alive = [process for process in processes if process.poll() is None]
    if not hasattr(os, "killpg"):  # Windows has no groups of processes
        for process in alive:
            process.kill()
        return
    for process in alive:
        os.killpg(process.pid, signal.SIGINT)
    latest = time.monotonic() + PATIENCE
    for process in alive:
        try:
            process.wait(max(0.0, latest - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
