"""A clone of the project at one commit, in which seeds, folds and trials run. Later commits and edits do not reach it."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError

FOLDER = Path(".darkroom/clones")
LOCAL = Path(".dvc/config.local")
ORIGIN = "clone-of-darkroom"  # a name that no remote of the user has
COPIED = ("user.", "remote.")  # sections of Git's settings that the commits of experiments and `exp.auto_push` need


@dataclass(frozen=True)
class Clone:
    """A clone of the user's repository. It shares DVC's cache with it, so that nothing is computed or stored twice.

    Attributes:
        root: The project's folder in the clone, an absolute path. Files that DVC tracks are not in it: each experiment runs in
            a temporary copy, and DVC puts them there.
        commit: The commit that is checked out.
        lock: The file that the process holds as long as it uses the clone; see `in_use`.
    """

    root: Path
    commit: str
    lock: Path

    def start(self, *arguments: str, variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `dvc ARGUMENTS` in the clone, with `variables` in its environment; see `dvc.start`."""
        return dvc.start(*arguments, cwd=self.root, extra={**self._variables(), **(variables or {})})

    def hand_over(self, name: str) -> str:
        """Copy the experiment `name` to the user's repository and return its commit.

        Raises:
            UserError: The clone has no such experiment.
        """
        found = dvc.experiments(name, cwd=self.root).get(self.commit)
        if found is None:
            raise UserError(f"DVC has left no experiment '{name}': correct the cause that it prints, and try again")
        reference = f"{_baseline(self.commit)}/{name}"
        top = git.read("rev-parse", "--show-toplevel", cwd=self.root)
        git.read("fetch", "--quiet", "--no-tags", top, f"{reference}:{reference}")
        return found

    def _variables(self) -> dict[str, str]:
        """DVC keeps notes on each project in a folder of the system. Those on the clone are to go with it."""
        return {"DVC_SITE_CACHE_DIR": str(self.root / ".dvc/tmp/site")}


@contextmanager
def of_head() -> Iterator[Clone]:
    """Clone HEAD, as `of` does. Changes that are not committed are left out; a printed sentence says so.

    Raises:
        UserError: The current folder is not the top folder of a project with Git and DVC.
    """
    git.refuse_elsewhere()
    commit = dvc.commit("HEAD")
    if git.read("status", "--porcelain", "--untracked-files=no"):
        print(f"There are changes that are not committed. They are left out: HEAD ({commit[:7]}) is run.", flush=True)
    with of(commit) as head:
        yield head


@contextmanager
def of(commit: str) -> Iterator[Clone]:
    """Clone a commit to a folder in .darkroom, and remove it at the end.

    What killed processes left there is removed at the start. Several processes can have clones at the same time, and a process
    can have several.

    Raises:
        UserError: Git or DVC refuses.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(FOLDER / "lock"):
        for left in FOLDER.glob("*/"):
            _remove_if_unused(left)
        folder = Path(tempfile.mkdtemp(dir=FOLDER)).absolute()
        used = _lock(folder)
        used.acquire()
    try:
        yield Clone(_fill(folder, commit), commit, Path(used.lock_file))
    finally:
        used.release()
        with filelock.FileLock(FOLDER.absolute() / "lock"):
            _remove_if_unused(folder)


def in_use(lock: Path) -> bool:
    """Whether a process of this machine uses the clone with this `Clone.lock`. That of another user is taken to be in use."""
    try:
        if not lock.exists():
            return False
        with filelock.FileLock(lock, timeout=0):
            return False
    except OSError:  # it is held, or may not be opened
        return True


def _fill(folder: Path, commit: str) -> Path:
    """Clone the user's repository to `folder`, which is empty, at `commit`. Return the project's folder in the clone.

    Raises:
        UserError: Git or DVC refuses.
    """
    top = git.read("rev-parse", "--show-toplevel")
    settings = (entry.partition("\n") for entry in git.read("config", "--local", "--null", "--list").split("\0"))
    kept = [f"--config={key}={value}" for key, _, value in settings if key.startswith(COPIED)]
    git.read("clone", "--quiet", "--no-checkout", f"--origin={ORIGIN}", *kept, top, str(folder))
    git.read("checkout", "--quiet", "--detach", commit, cwd=folder)
    # With them, DVC refuses a name that an experiment of this commit has already.
    there = f"{_baseline(commit)}/*"
    git.read("fetch", "--quiet", "--no-tags", top, f"{there}:{there}", cwd=folder)
    root = folder / git.read("rev-parse", "--show-prefix")
    if LOCAL.exists():
        shutil.copy(LOCAL, root / LOCAL)
    cache = dvc.cache()
    _store_data(root, cache)
    if dvc.call("config", "--quiet", "--local", "cache.dir", str(cache), cwd=root):
        raise UserError(f"DVC cannot be used in {root}: correct the cause that it prints")
    return root


def _store_data(root: Path, cache: Path) -> None:
    """Put the data that DVC tracks into its cache if they are only in the work tree, as images are that were put back there.

    DVC refuses to do so if they are not those that are tracked.

    Args:
        root: The project's folder in the clone.
        cache: The folder of DVC's cache.
    """
    for path in filter(None, git.read("ls-files", "-z", "*.dvc", cwd=root).split("\0")):
        digests = [str(out.get("md5", "")) for out in params.read(root / path).get("outs", [])]
        if not all((cache / "files/md5" / digest[:2] / digest[2:]).exists() for digest in digests):
            dvc.call("commit", "--quiet", path, quiet=True)


def _baseline(commit: str) -> str:
    """Where DVC keeps references to the experiments of `commit`."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}"


def _remove_if_unused(folder: Path) -> None:
    """Remove a clone whose process has ended. What cannot be removed yet, the next command removes."""
    lock = _lock(folder)
    try:
        with lock.acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except filelock.Timeout:
        return
    if not folder.exists():
        Path(lock.lock_file).unlink(missing_ok=True)


def _lock(folder: Path) -> filelock.BaseFileLock:
    """The lock that a process holds as long as it uses the clone in `folder`. The system releases it when the process ends."""
    return filelock.FileLock(f"{folder}.lock")
