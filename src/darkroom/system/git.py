"""Git as a command."""

import os
import subprocess
from pathlib import Path

from darkroom.system.errors import UserError


def read(*arguments: str, cwd: Path | None = None) -> str:
    """What `git ARGUMENTS` prints, without the last newline.

    Raises:
        UserError: It failed. The last line of Git's message is in it.
    """
    done = _run(arguments, cwd)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise UserError(f"git {arguments[0]} failed ({reason[-1]}): mend that and try again")
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def commit(revision: str) -> str | None:
    """The full name of the commit that Git knows as `revision`, or None."""
    known = _run(("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"))
    return None if known.returncode else known.stdout.decode("ascii").strip()


def refuse_elsewhere() -> None:
    """Check that the current folder is the top folder of a project.

    Raises:
        UserError: The current folder has no dvc.yaml.
    """
    if not Path("dvc.yaml").exists():
        raise UserError("there is no dvc.yaml here: run from the project's top folder")


def show(revision: str, path: str, cwd: Path | None = None) -> bytes | None:
    """The content of a file in a commit, or None if it has no such file. `path` is relative to the current folder.

    It is as a checkout writes it, so that a file may be in Git LFS.
    """
    shown = _run(("cat-file", "--filters", f"{revision}:./{path}"), cwd)
    return None if shown.returncode else shown.stdout


def _run(arguments: tuple[str, ...], cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run Git without variables such as GIT_DIR, which Git sets for hooks: they would lead it to another repository."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        return subprocess.run(["git", *arguments], cwd=cwd, env=variables, capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not to be found on PATH: install it (apt install git, brew install git)") from None
