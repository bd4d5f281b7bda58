"""Runs one stage: settles the environment first, and turns a user's mistake into a sentence."""

import errno
import importlib
import sys
import time
from pathlib import Path

from darkroom.system import determinism, environment, params, process
from darkroom.system.errors import UserError

# In the order of the DAG, each with those of requirements/*.txt that can change what it writes.
STAGES = {
    "split": ("data", "figures"),
    "stats": ("data", "figures"),
    "train_scratch": ("data", "models"),
    "train_finetune": ("data", "models"),
    "evaluate": ("data", "models", "figures"),
    "tsne": ("data", "models", "figures"),
}
# What a user can do about an OSError that is no bug of ours.
WAYS_OUT = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room and run `dvc repro`, which loses no finished epoch"
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "let yourself read and write there"),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP), "move away what is in the way"),
}


def run(name: str) -> int:
    """Run the stage `name` in the current folder and return its exit code: 0, or 2 for a mistake of the user's."""
    started = time.monotonic()
    try:
        with process.alone(name):
            environment.check(STAGES[name])
            if with_torch(name):
                settings = params.load("run", params.Run)
                determinism.prepare(settings)
                print(", ".join(f"{key} {value}" for key, value in _facts(settings).items()), flush=True)
            importlib.import_module(f"darkroom.stages.{name}").main()
        print(
            f"{name} took {time.monotonic() - started:.1f} s and at most {process.peak_memory():,.0f} MiB", flush=True
        )
    except UserError as error:
        print(f"darkroom {name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in WAYS_OUT:
            raise
        print(
            f"darkroom {name}: {error.filename or Path.cwd()} cannot be used ({error.strerror}): {WAYS_OUT[error.errno]}",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"\ndarkroom {name}: interrupted; the next run goes on from the last finished epoch", file=sys.stderr)
        return 130
    return 0


def with_torch(name: str) -> bool:
    """Whether the stage computes with torch, whose CPU caps must stand before its import."""
    return "models" in STAGES[name]


def _facts(settings: params.Run) -> dict[str, str]:
    """The log's first line."""
    return {**environment.made_by(settings), **environment.here()}
