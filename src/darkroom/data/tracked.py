"""The images that DVC tracks: where to get them, and what changed since they were tracked."""

import re
from pathlib import Path

from darkroom.data import demo
from darkroom.data.layout import RAW, TRACKED
from darkroom.system import dvc
from darkroom.system.errors import UserError


def provide_raw() -> None:
    """See to it that data/raw is there: from DVC's cache, its remote, or, where it is the demo that is tracked, from pip.

    Raises:
        UserError: Other images are tracked, and neither cache nor remote has them.
    """
    if RAW.exists():
        _notice_changes()
        return
    if TRACKED.exists():
        if dvc.call("checkout", "--quiet", str(TRACKED), quiet=True) == 0 and RAW.exists():
            return
        if dvc.read("remote", "list").strip():
            dvc.call("pull")  # models and all: what the remote has need not be built again; some may be missing there
            if RAW.exists():
                return
        if not is_demo(Path()):
            raise UserError(
                f"{RAW} is missing, and neither DVC's cache nor a remote has what {TRACKED} tracks: "
                "add the remote that has it (`dvc remote add`), or put the images back"
            )
    print(f"laying out the demo data in {RAW} (ELPV, CC BY-NC-SA 4.0)")
    demo.lay_out(RAW)


def is_demo(project: Path) -> bool:
    """Whether it is the demo that data/raw.dvc of `project` tracks."""
    return demo.MD5 in (project / TRACKED).read_text(encoding="utf-8")


def _notice_changes() -> None:
    """Say when data/raw holds another number of files than are tracked, and refuse to track that it is empty.

    Raises:
        UserError: It is empty.
    """
    present = sum(path.is_file() for path in RAW.rglob("*"))
    if not present:
        raise UserError(
            f"{RAW} is empty: put a folder of images a class into it, or remove it to get back what was there"
        )
    tracked = re.search(r"nfiles: (\d+)", TRACKED.read_text(encoding="utf-8")) if TRACKED.exists() else None
    if tracked and int(tracked[1]) != present:
        print(f"{RAW} has {present} files where {TRACKED} tracks {tracked[1]}: taken as your change")
