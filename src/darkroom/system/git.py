"""Git as a command: what a revision holds."""

import os
import subprocess
from pathlib import Path

from darkroom.system.errors import UserError


def read(*arguments: str, cwd: Path | None = None) -> str:
    """What `git ARGUMENTS` prints, without the last newline.

    Raises:
        UserError: It failed; with Git's own last line.
    """
    done = _run(arguments, cwd)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise UserError(f"git {arguments[0]} failed ({reason[-1]}): mend that and try again")
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def commit(revision: str) -> str:
    """The full name of the commit that `revision`, or the DVC experiment of that name, is.

    Raises:
        UserError: There is neither.
    """
    known = _run(("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"))
    named = experiments(revision)
    if known.returncode == 0:
        own = known.stdout.decode("ascii").strip()
        if named and own not in named.values():
            raise UserError(
                f"'{revision}' is a revision of Git ({own[:12]}) and also an experiment "
                f"({', '.join(found[:12] for found in named.values())}): name the one you mean by its number"
            )
        return own
    if not named:
        raise UserError(f"Git knows no revision '{revision}': `git log` and `dvc exp list` show those there are")
    if len(named) > 1:
        raise UserError(
            f"{len(named)} experiments bear the name '{revision}', each of another commit: name one as "
            f"{' or '.join(found[:12] for found in named.values())}"
        )
    return next(iter(named.values()))


def experiments(name: str) -> dict[str, str]:
    """The commit that each DVC experiment called `name` began with -> its own."""
    lines = read("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
    found = [line.split(" ", 1) for line in lines if line.rpartition("/")[2] == name]
    # refs/exps/ab/cdef.../name, as DVC has it
    return {"".join(reference.split("/")[2:4]): own for own, reference in found}


def refuse_elsewhere() -> None:
    """See to it that the current folder is a project's top folder.

    Raises:
        UserError: It is not.
    """
    if not Path("dvc.yaml").exists():
        raise UserError("there is no dvc.yaml here: run from the project's top folder")


def refuse_changes(why: str) -> None:
    """See to it that all tracked files of the project are as committed.

    Raises:
        UserError: One is not.
    """
    refuse_elsewhere()
    if read("status", "--porcelain", "--untracked-files=no"):
        raise UserError(f"there are changes that are not committed: commit them, since {why}")


def show(revision: str, path: str, cwd: Path | None = None) -> bytes | None:
    """The content of a file, named from the current folder, in a commit; None where it has no such file."""
    shown = _run(("show", f"{revision}:./{path}"), cwd)
    return None if shown.returncode else shown.stdout


def _run(arguments: tuple[str, ...], cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """A hook's GIT_DIR and the like must not lead Git to another repository than that of the folder."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        return subprocess.run(["git", *arguments], cwd=cwd, env=own, capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not to be found on PATH: install it (apt install git, brew install git)") from None
