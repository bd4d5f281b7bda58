"""Images of data/raw that are not those of data/raw.dvc, because a checkout was interrupted or never made.

The first looks like a removal of images, the second like a return to old ones. Only `dvc add` tells them apart.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from darkroom.data.layout import RAW, TRACKED
from darkroom.system import dvc, files, git, lock
from darkroom.system.errors import UserError

LOCK = Path(".dvc/tmp/lock")


def refuse() -> None:
    """Check that data/raw does not lack files while all others are as data/raw.dvc tracks them.

    Raises:
        UserError: It does.
    """
    if missing := _lacking():
        raise _sentence(missing)


def _lacking() -> list[str]:
    """The files that data/raw lacks, if all others are as data/raw.dvc tracks them; else none."""
    status = json.loads(dvc.read("data", "status", "--granular", "--json", RAW.as_posix())).get("uncommitted", {})
    renamed = status.get("renamed", [])
    missing = [path for path in [*status.get("deleted", []), *(pair["old"] for pair in renamed)] if _counts(path)]
    others = [path for kind in ("added", "modified", "unknown") for path in status.get(kind, [])]
    return [] if any(map(_counts, [*others, *(pair["new"] for pair in renamed)])) else missing


def _sentence(missing: Sequence[str]) -> UserError:
    return UserError(
        f"{RAW} lacks {len(missing)} of the files that {TRACKED} tracks, such as {missing[0]!r}: get them back by "
        f"`dvc checkout --force {TRACKED}` (or `dvc pull --force {TRACKED}`, if they are in the remote alone), or say by "
        f"`dvc add {RAW}` that they are removed on purpose"
    )


def refuse_in_stage() -> None:
    """The same in the stage split, and the images of another commit. `dvc repro` has made data/raw.dvc track what is there.

    This is taken back: data/raw.dvc gets what dvc.lock says of the last run of the stage.

    Raises:
        UserError: data/raw lacks files, or has the images of another commit, as after a `git pull` without `dvc checkout`.
    """
    if not _written_by_repro():
        return
    recorded = lock.read().get("split", {}).get("deps", []) if lock.LOCK.exists() else []
    before = next((dep for dep in recorded if dep["path"] == RAW.as_posix()), None)
    if before is None:
        return
    now = TRACKED.read_text(encoding="utf-8")
    text = now
    for key in ("md5", "size", "nfiles"):
        text = re.sub(rf"\b{key}: \S+", f"{key}: {before[key]}", text, count=1)
    files.write_bytes(TRACKED, text.encode())
    try:
        missing = _lacking()
    except BaseException:  # DVC failed or was interrupted: nothing is known about the images
        files.write_bytes(TRACKED, now.encode())
        raise
    if missing:
        raise _sentence(missing)
    if other := commit_with(now):
        raise UserError(
            f"{RAW} has the images of the commit {other}, and {TRACKED} tracks others: get these by `dvc checkout {TRACKED}` (or "
            f"with the results by `dvc pull --run-cache`, from the remote), or say by `dvc add {RAW}` that you want the former"
        )
    files.write_bytes(TRACKED, now.encode())


def commit_with(tracked: str) -> str | None:
    """The last commit that changed data/raw.dvc to this content. None if HEAD has it, or no commit of any branch."""
    md5 = re.search(r"\bmd5: (\S+)", tracked)
    here = git.show("HEAD", TRACKED.as_posix()) if git.commit("HEAD") else None
    if md5 is None or here is None or md5[0].encode() in here:
        return None
    changed = git.read("log", "--all", "--format=%h", f"-S{md5[0]}", "--", TRACKED.as_posix()).split()
    return next(
        (commit for commit in changed if md5[0].encode() in (git.show(commit, TRACKED.as_posix()) or b"")), None
    )


def _counts(path: str) -> bool:
    """Whether `path` is a file, and not hidden: a DVC that is killed leaves hidden files, which are no images."""
    return not (path.endswith("/") or Path(path).name.startswith("."))


def _written_by_repro() -> bool:
    """Whether the `dvc repro` that runs this stage has written data/raw.dvc: it is then newer than DVC's lock.

    DVC writes its lock file when a command begins. Not so in an experiment, which begins by having Git write files anew.
    """
    if "DVC_STAGE" not in os.environ or "DVC_EXP_BASELINE_REV" in os.environ:
        return False
    return TRACKED.exists() and LOCK.exists() and TRACKED.stat().st_mtime_ns > LOCK.stat().st_mtime_ns
