"""Runs one stage: prepares the process, and turns a mistake of the user into one sentence."""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

from darkroom.system import inputs, params, pins, pipeline, process, progress, role
from darkroom.system.errors import LostWorkerError, UserError, in_words

# A stage, and what torch needs, are imported by name, so that only the stages that use them depend on them.
STAGES = Path(__file__).with_name("stages")
COMPUTES = "models"  # a stage that depends on requirements/models.txt computes with torch
LOST = 3  # the exit code of a worker that misses another one


def run_stage(name: str) -> int:
    """Run a stage of dvc.yaml in the current folder and return its exit code: 0, or 2 for a mistake of the user's.

    Whatever the stage depends on must not change while it runs. If it does, the outs are removed: DVC would record them as
    the results of the change.
    """
    if here := role.of_this_process():
        return _run_worker(name, here)
    started = time.monotonic()
    try:
        with process.alone(name), progress.noted(name):
            with params.held():
                before = inputs.snapshot(name)
                prepare(name)
                importlib.import_module(f"darkroom.stages.{name}").main()
            inputs.refuse_changed(name, before)
        print(
            f"{name} took {time.monotonic() - started:.1f} s and at most {process.peak_memory():,.0f} MiB", flush=True
        )
    except Exception as error:
        if not (sentence := in_words(error)):
            raise
        print(f"darkroom {name}: {sentence}{_way_back(name)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ndarkroom {name}: interrupted; the next run goes on from the last finished epoch", file=sys.stderr)
        return 130
    return 0


def _run_worker(name: str, here: role.Role) -> int:
    """Run a stage as a further worker of a training, which writes nothing, and return its exit code.

    A mistake of the user's is the same in all workers. The first of each machine says what it is.
    """
    if here.rank is not None:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # the terminal sends it to all; this worker ends with the first one
    try:
        with params.held():
            prepare(name)
            importlib.import_module(f"darkroom.stages.{name}").main()
    except UserError as error:
        if here.rank is None:
            print(f"darkroom {name}: {error}", file=sys.stderr)
        return LOST if isinstance(error, LostWorkerError) else 2
    except KeyboardInterrupt:
        return 130
    return 0


def _way_back(name: str) -> str:
    """A line on the results of the last run, which DVC removes before it runs a stage; "" where there are none."""
    if "DVC_STAGE" not in os.environ or not Path("dvc.lock").exists():
        return ""
    return (
        f"\nDVC has removed the results of the last {name}: `dvc repro` makes new ones, and "
        f"`git checkout -- $(git ls-files --deleted) && dvc checkout {name}` gets the old ones back"
    )


def prepare(name: str) -> None:
    """Check params.yaml and the installed packages, and settle what torch needs before the stage imports it.

    Raises:
        UserError: dvc.yaml has no such stage, params.yaml has an unknown section, or a package has another version.
    """
    requirements = pipeline.requirements(pipeline.entry(name))
    params.refuse_unknown(pipeline.sections(pipeline.stages()))
    pins.check(requirements)
    if COMPUTES in requirements:
        importlib.import_module("darkroom.system.determinism").settle()


def names() -> list[str]:
    """The stages that there are: the files in stages/."""
    return sorted(path.stem for path in STAGES.glob("[!_]*.py"))
