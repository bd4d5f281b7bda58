"""DVC as a command, run by this Python, and DVC's experiments."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from darkroom.system import git
from darkroom.system.errors import UserError
from darkroom.system.process import end_with_parent


def call(*arguments: str, quiet: bool = False, cwd: Path | None = None, extra: Mapping[str, str] | None = None) -> int:
    """Run `dvc ARGUMENTS` and return its exit code. Its output goes to the terminal. It ends with this process.

    Args:
        arguments: The command and its options.
        quiet: Discard the output, and answer no question.
        cwd: The project; the current folder when None.
        extra: Environment variables to add.
    """
    sink = subprocess.DEVNULL if quiet else None
    variables = {**_variables(), **(extra or {})}
    return subprocess.run(
        _command(arguments),
        cwd=cwd,
        env=variables,
        stdin=sink,
        stdout=sink,
        stderr=sink,
        preexec_fn=end_with_parent if os.name == "posix" else None,
        check=False,
    ).returncode


def read(*arguments: str, cwd: Path | None = None) -> str:
    """What `dvc ARGUMENTS` prints.

    Raises:
        UserError: It failed, as outside of a DVC project or with a damaged .dvc/config. DVC has printed why.
    """
    done = subprocess.run(
        _command(arguments),
        cwd=cwd,
        env=_variables(),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise UserError(f"DVC cannot be used in {cwd or Path.cwd()}: mend the cause that it prints")
    return done.stdout


def cache(cwd: Path | None = None) -> Path:
    """The folder of DVC's cache, which may lie anywhere.

    Raises:
        UserError: There is no DVC project.
    """
    return Path(read("cache", "dir", cwd=cwd).strip()).absolute()


def start(*arguments: str, cwd: Path | None = None, extra: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `dvc ARGUMENTS` in a new process group. Both of its output streams can be read from its stdout.

    DVC and the stage that it runs end with this process. The arguments are those of `call`.
    """
    return subprocess.Popen(
        _command(arguments),
        cwd=cwd,
        env={**_variables(), "PYTHONUNBUFFERED": "1", **(extra or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=_before if os.name == "posix" else None,
    )


def experiments(name: str, cwd: Path | None = None) -> dict[str, str]:
    """The commits of the experiments called `name`, by the commit that each was run on. `cwd` is a folder of the repository."""
    lines = git.read("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps", cwd=cwd).splitlines()
    found = [line.split(" ", 1) for line in lines if line.rpartition("/")[2] == name]
    # DVC's references are refs/exps/ab/cdef.../name, where abcdef... is the commit that the experiment was run on.
    return {"".join(reference.split("/")[2:4]): commit for commit, reference in found}


def commit(name: str) -> str:
    """The full name of the commit of a Git revision or of an experiment.

    Raises:
        UserError: Neither has this name, or more than one commit has it.
    """
    revision, named = git.commit(name), experiments(name)
    if revision and named and revision not in named.values():
        raise UserError(
            f"'{name}' is a Git revision ({revision[:12]}) and also an experiment "
            f"({', '.join(found[:12] for found in named.values())}): name the one you mean by its number"
        )
    if revision:
        return revision
    if not named:
        raise UserError(f"Git knows no revision '{name}': `git log` and `dvc exp list` show those there are")
    if len(named) > 1:
        raise UserError(
            f"{len(named)} experiments have the name '{name}', each of another commit: name one as "
            f"{' or '.join(found[:12] for found in named.values())}"
        )
    return next(iter(named.values()))


def _before() -> None:
    """Let interrupts work again: a shell makes its background jobs, and their children, ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def _variables() -> dict[str, str]:
    """Variables with which `python3` in dvc.yaml is this Python, even if its virtual environment is not active."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")])}
