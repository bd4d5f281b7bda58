"""At most one process per stage; its peak memory; its end when its parent ends."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from darkroom.system.errors import UserError

LOCKS = Path(".darkroom/locks")


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the lock of the stage `name` in this folder. The system releases it when the process ends, in whatever way.

    Raises:
        UserError: Another process holds it.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(LOCKS / f"{name}.lock", timeout=0):
            yield
    except filelock.Timeout:
        raise UserError(
            f"another run of this stage is at work in {Path.cwd()}: wait until it ends, or stop it, and run `dvc repro`"
        ) from None


def peak_memory() -> float:
    """The peak memory in MiB of this process, or of a child that has ended if that is larger."""
    try:
        import resource
    except ImportError:  # Windows has none
        return float("nan")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit


def end_with_parent(parent: int | None = None) -> None:
    """Ask Linux to end this process when its parent ends, even by SIGKILL. On other systems nothing happens.

    Args:
        parent: The process that started it. If it is given and already gone, this process ends at once.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
        if parent not in (None, os.getppid()):
            os._exit(1)
