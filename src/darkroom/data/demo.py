"""The demo data: ELPV, 2,624 electroluminescence images of solar cells, with one folder per class."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from darkroom.system.errors import UserError
from darkroom.system.files import new_folder

MD5 = "43f0a6eb3f538aa28470f521e378c551.dir"  # of the demo data, as DVC writes it in data/raw.dvc
DEFECTIVE = 0.5  # a cell counts as defective if its annotated probability is at least this high


def lay_out(target: Path) -> None:
    """Copy the images of the package elpv-dataset to `target`/{mono,poly}-{defective,functional}/.

    Source: Buerhop-Lutz et al. 2018, Deitsch et al. 2019 and 2021; licence CC BY-NC-SA 4.0.

    Raises:
        UserError: `target` exists, or the package is not installed.
    """
    if target.exists():
        raise UserError(f"{target} exists already and may hold your images: move it away first")
    spec = find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise UserError("the package elpv-dataset is not installed: run `make` again")
    data = Path(spec.origin).with_name("data")
    with new_folder(target) as folder:
        for line in (data / "labels.csv").read_text(encoding="ascii").splitlines():
            name, probability, kind = line.split()
            state = "defective" if float(probability) >= DEFECTIVE else "functional"
            copy = folder / f"{kind}-{state}" / Path(name).name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(data / name, copy)
