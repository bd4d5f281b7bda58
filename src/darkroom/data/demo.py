"""The demo data: ELPV, 2,624 electroluminescence images of solar cells, as a folder a class."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from darkroom.system.errors import UserError
from darkroom.system.files import new_folder

MD5 = "43f0a6eb3f538aa28470f521e378c551.dir"  # of the demo, as DVC names folders in data/raw.dvc
DEFECTIVE = 0.5  # annotated probability from which on a cell counts as defective


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
