"""`darkroom taste`: all stages within a minute, on a slice of the demo, in a copy of the project that is deleted afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from darkroom.data import demo
from darkroom.data.layout import GROUPS, PINNED, RAW
from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError

EACH = 40  # images of a class
SMALL: dict[str, dict[str, Any]] = {
    "images": {"resolution": 64},
    "split": {"mode": "hash", "group": None, "layout": "files"},
    "evaluate": {"resamples": 200},
    "tsne": {"perplexity": 10},
}
BACKBONE = {"backbone": "tf_efficientnet_lite0", "weights": "default", "fingerprint": None}  # comes by pip
SMALL_TRAINING = {"epochs": 3, "batch_size": 16}
MARK = f"A taste: {EACH} images of each class at 64 pixels, 3 epochs. The figures mean nothing; `make` makes the real ones."


@contextmanager
def project() -> Iterator[Path]:
    """A copy of HEAD with a slice of the demo and small params, for the time of the block.

    Raises:
        UserError: The current folder is not the top folder of a project with Git and DVC, or the demo is not installed.
    """
    git.refuse_elsewhere()
    head = dvc.commit("HEAD")
    with tempfile.TemporaryDirectory(prefix="darkroom taste ") as temporary:
        clone = Path(temporary) / "clone"
        git.read("clone", "--quiet", git.read("rev-parse", "--show-toplevel"), str(clone))
        git.read("checkout", "--quiet", "--detach", head, cwd=clone)
        root = clone / git.read("rev-parse", "--show-prefix")
        _lay_out(root)
        _shrink(root / params.PARAMS)
        if dvc.call("add", "--quiet", str(RAW), cwd=root):
            raise UserError("DVC cannot add the slice of the demo: mend what it says, and try again")
        yield root


def _lay_out(root: Path) -> None:
    """Put a slice of the demo into data/raw. Tables of groups and sides, which are about other images, keep their header.

    Weights that DVC tracks are not here, and not needed.
    """
    for weights in (root / "weights").glob("*.dvc"):
        weights.unlink()
    demo.lay_out(root / RAW)
    for of_class in (root / RAW).iterdir():
        for path in sorted(of_class.iterdir())[EACH:]:
            path.unlink()
    for table in (root / GROUPS, root / PINNED):
        if table.exists():
            table.write_text(table.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")


def _shrink(path: Path) -> None:
    """Give params.yaml small values."""
    tree = params.read(path)
    for name, section in tree.items():
        if name.startswith("train_") and "epochs" in section:
            section.update(SMALL_TRAINING)
        if "backbone" in section:
            section.update(BACKBONE)
        if name in SMALL:
            section.update(SMALL[name])
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
