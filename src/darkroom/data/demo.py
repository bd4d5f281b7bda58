"""The demo data: ELPV, 2,624 electroluminescence images of solar cells, as a folder a class."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from darkroom.system import dvc
from darkroom.system.errors import UserError
from darkroom.system.files import new_folder

RAW = Path("data/raw")
TRACKED = Path("data/raw.dvc")
DEMO_MD5 = "43f0a6eb3f538aa28470f521e378c551.dir"  # what data/raw.dvc says when it tracks the demo
DEFECTIVE = 0.5  # annotated probability from which on a cell counts as defective


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
        if not is_tracked(Path()):
            raise UserError(
                f"{RAW} is missing, and neither DVC's cache nor a remote has what {TRACKED} tracks: "
                "add the remote that has it (`dvc remote add`), or put the images back"
            )
    print(f"laying out the demo data in {RAW} (ELPV, CC BY-NC-SA 4.0)")
    lay_out(RAW)


def is_tracked(project: Path) -> bool:
    """Whether it is the demo that data/raw.dvc of `project` tracks."""
    return DEMO_MD5 in (project / TRACKED).read_text(encoding="utf-8")


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


def lay_out(target: Path) -> None:
    """Copy the images of the package elpv-dataset into `target`/{mono,poly}-{defective,functional}/.

    Buerhop-Lutz et al. 2018, Deitsch et al. 2019 and 2021; CC BY-NC-SA 4.0.

    Raises:
        UserError: `target` exists, or the package is not installed.
    """
    if target.exists():
        raise UserError(f"{target} exists, and what is in it may be yours: move it away first")
    spec = find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise UserError("the package elpv-dataset is not installed: run `make` again")
    data = Path(spec.origin).with_name("data")
    with new_folder(target) as folder:
        for line in (data / "labels.csv").read_text(encoding="ascii").splitlines():
            name, probability, kind = line.split()
            state = "defective" if float(probability) >= DEFECTIVE else "functional"
            place = folder / f"{kind}-{state}" / Path(name).name
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(data / name, place)
