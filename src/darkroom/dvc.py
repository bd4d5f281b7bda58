"""DVC as a command, from the environment that this Python runs in."""

import os
import subprocess
import sys
from pathlib import Path


def call(*arguments: str, quiet: bool = False) -> int:
    """Run `dvc ARGUMENTS` and return its exit code. What it prints goes to the terminal, or nowhere."""
    sink = subprocess.DEVNULL if quiet else None
    return subprocess.run(_command(arguments), env=_environment(), stdout=sink, stderr=sink, check=False).returncode


def read(*arguments: str) -> str:
    """What `dvc ARGUMENTS` prints.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    return subprocess.run(
        _command(arguments), env=_environment(), stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True
    ).stdout


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def _environment() -> dict[str, str]:
    """`python` in dvc.yaml must be this Python, also where nobody activated its environment."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")])}
