"""The images that DVC tracks: getting them, and noticing changes since they were tracked."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.data import demo, missing
from darkroom.data.layout import RAW, TRACKED
from darkroom.system import dvc, lock
from darkroom.system.errors import UserError


def provide_raw() -> None:
    """Make sure that data/raw exists.

    If it is missing, it is taken from DVC's cache or from DVC's remote. The demo data can also be copied from its pip package.
    A project that tracks no images gets the demo data.

    Raises:
        UserError: data/raw is empty, or the tracked images are not the demo and neither the cache nor the remote has them.
    """
    if RAW.exists():
        _check_changes()
        return
    if TRACKED.exists():
        if dvc.call("checkout", "--quiet", str(TRACKED), quiet=True) == 0 and RAW.exists():
            return
        if dvc.read("remote", "list").strip():
            dvc.call("pull")  # models too, which then need not be built again; it may fail, as the remote may lack some
            if RAW.exists():
                return
        if not is_demo(Path()):
            raise UserError(
                f"{RAW} is missing, and neither DVC's cache nor a remote has the images that {TRACKED} tracks: "
                f"add a remote that has them (`dvc remote add`), or put the images back into {RAW}"
            )
    print(f"copying the demo data to {RAW} (ELPV, CC BY-NC-SA 4.0)")
    demo.lay_out(RAW)


def content() -> str:
    """The text of data/raw.dvc, which has the md5 of the images. "" if no images are tracked."""
    return TRACKED.read_text(encoding="utf-8") if TRACKED.exists() else ""


def returned(before: str) -> str:
    """A line if `dvc repro` has made data/raw.dvc track the images of another commit; "" if not.

    Where DVC has the results of these images in its run-cache, the stage split does not run, and cannot refuse.

    Args:
        before: `content()` before `dvc repro`.
    """
    if content() == before or not (other := missing.commit_with(content())):
        return ""
    return (
        f"note: {RAW} had the images of the commit {other}, and `dvc repro` has made {TRACKED} track them again: if you want "
        "those of HEAD, say `git checkout -- .` and `dvc checkout`"
    )


def not_added() -> str:
    """A line if data/raw is not what data/raw.dvc tracks; "" if it is, or if one of the two is missing."""
    if not (RAW.exists() and TRACKED.exists()) or dvc.call("status", "--quiet", str(TRACKED), quiet=True) == 0:
        return ""
    return f"note: {RAW} has changed since these results: run `dvc add {RAW}` and `darkroom run`"


def is_demo(project: Path) -> bool:
    """Whether data/raw.dvc of `project` tracks the demo data."""
    tracked = project / TRACKED
    return tracked.exists() and demo.MD5 in tracked.read_text(encoding="utf-8")


def is_split(tracked: str, stages: Mapping[str, Any]) -> bool:
    """Whether the stage split was run on the tracked images.

    Args:
        tracked: The text of data/raw.dvc.
        stages: The stages of dvc.lock.
    """
    return f"md5: {lock.deps(stages.get('split', {})).get(str(RAW))}\n" in tracked


def _check_changes() -> None:
    """Print a line if the number of files in data/raw differs from the tracked number, with hidden files and without them.

    Raises:
        UserError: data/raw is empty, or it lacks files and is else as it is tracked.
    """
    is_hidden = [path.name.startswith(".") for path in RAW.rglob("*") if path.is_file()]
    present = is_hidden.count(False)
    if not present:
        raise UserError(
            f"{RAW} is empty: put one folder of images per class into it, or remove it to get the tracked images back"
        )
    tracked = re.search(r"nfiles: (\d+)", TRACKED.read_text(encoding="utf-8")) if TRACKED.exists() else None
    if tracked and int(tracked[1]) > present:
        missing.refuse()
    counts = present, len(is_hidden)  # DVC tracks the hidden files of a Mac, and leaves some itself when it is killed
    if tracked and int(tracked[1]) not in counts:
        print(f"{RAW} has {present} files, but {TRACKED} tracks {tracked[1]}: the change is taken as intended")
