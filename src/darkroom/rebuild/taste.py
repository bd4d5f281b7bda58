"""`darkroom taste`: all stages within a minute, on a slice of the demo, in a copy of the project that is deleted afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from darkroom.data import demo
from darkroom.data.layout import GROUPS, PINNED, RAW
from darkroom.rebuild.verify import cloned
from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError

EACH, RESOLUTION, EPOCHS = 40, 64, 3  # images of a class, pixels of a side, epochs
SMALL: dict[str, dict[str, Any]] = {
    "run": {"shards": 1},  # at 64 pixels, more take twice the time
    "images": {"resolution": RESOLUTION},
    "split": {"mode": "hash", "group": None, "layout": "files"},
    "evaluate": {"resamples": 200},
    "tsne": {"perplexity": 10},
}
SMALL_TRAINING = {"epochs": EPOCHS, "batch_size": 16}
BACKBONE = {"backbone": "tf_efficientnet_lite0", "weights": "default", "fingerprint": None}  # comes by pip
MARK = (
    f"A taste: {EACH} images of each class at {RESOLUTION} pixels, {EPOCHS} epochs. The figures mean nothing; `make` makes the "
    "real ones."
)


@contextmanager
def project() -> Iterator[Path]:
    """A copy of HEAD with a slice of the demo and small params, for the time of the block.

    Raises:
        UserError: The current folder is not the top folder of a project with Git and DVC, or the demo is not installed.
    """
    git.refuse_elsewhere()
    with tempfile.TemporaryDirectory(prefix="darkroom taste ") as temporary:
        root = cloned(Path(temporary) / "clone", dvc.commit("HEAD"))
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
