"""DVC as a command, from the environment that this Python runs in."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from darkroom.system.process import end_with_parent


def call(*arguments: str, quiet: bool = False, cwd: Path | None = None, extra: Mapping[str, str] | None = None) -> int:
    """Run `dvc ARGUMENTS` and return its exit code. What it prints goes to the terminal, or nowhere.

    Args:
        arguments: Of the command.
        quiet: Print nothing.
        cwd: The project; the current folder when None.
        extra: Variables of the environment to add.
    """
    sink = subprocess.DEVNULL if quiet else None
    environment = {**_environment(), **(extra or {})}
    return subprocess.run(
        _command(arguments), cwd=cwd, env=environment, stdout=sink, stderr=sink, check=False
    ).returncode


def read(*arguments: str, cwd: Path | None = None) -> str:
    """What `dvc ARGUMENTS` prints.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    return subprocess.run(
        _command(arguments),
        cwd=cwd,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start `dvc ARGUMENTS` as the leader of a process group of its own; its stdout can be read, both streams in one.

    It ends with this process, and the stage that it runs with it.
    """
    return subprocess.Popen(
        _command(arguments),
        env={**_environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=_before,
    )


def _before() -> None:
    """A shell has its background jobs ignore interrupts, which is inherited; by one a trial is stopped."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def _environment() -> dict[str, str]:
    """`python` in dvc.yaml must be this Python, also where nobody activated its environment."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")])}
