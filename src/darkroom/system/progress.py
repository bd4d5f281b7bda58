"""Which stage runs and how far it is, in .darkroom/progress, for `darkroom watch`. No result depends on it."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from darkroom.system.files import write_bytes

FOLDER = Path(".darkroom/progress")  # ignored by Git and unknown to DVC


@contextlib.contextmanager
def noted(stage: str) -> Iterator[None]:
    """Note that `stage` begins, and when the block succeeds, how many seconds it took."""
    started = time.time()
    last = read(stage).get("seconds")
    _write(stage, {"started": started, "seconds": last, "process": os.getpid(), "epochs": 0, "rows": []})
    try:
        yield
        last = time.time() - started
    finally:
        _write(stage, {**read(stage), "process": None, "seconds": last})


def epochs(stage: str, total: int, header: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Note the epochs that are done, of `total`."""
    _write(stage, {**read(stage), "epochs": total, "rows": [dict(zip(header, row, strict=True)) for row in rows]})


def read(stage: str) -> dict[str, Any]:
    """What is noted about a stage, or {}.

    Keys: `started`, in seconds since 1970; `seconds` that the last whole run took, or None; the number of the `process` that runs
    it, or None; `epochs` in all, 0 if it has none; `rows`, an epoch each.
    """
    try:
        found = json.loads((FOLDER / f"{stage}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(stage: str, content: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, ValueError):  # a full disk must not end a training because of this
        write_bytes(FOLDER / f"{stage}.json", json.dumps(content).encode())
