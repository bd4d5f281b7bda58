"""Results that lie in the project while DVC's cache has lost them."""

from pathlib import Path

from darkroom.system import dvc, lock

CACHE = Path(".dvc/cache/files")  # where `cache.dir` is not set


def refill() -> None:
    """Put the results of dvc.lock into DVC's cache if it is empty and all of them are here: else DVC would run every stage again.

    `dvc commit` refuses, and nothing is changed, if one of them is not what dvc.lock says.
    """
    outs = [Path(path) for stage in lock.read().values() for path in lock.outs(stage)] if lock.LOCK.exists() else []
    if CACHE.is_dir() or not outs or not all(out.exists() for out in outs):
        return
    if (dvc.cache() / CACHE.name).is_dir():
        return
    if dvc.call("commit", "--quiet", quiet=True) == 0:
        print("DVC's cache had lost the results that lie here: `dvc commit` has put them back")
