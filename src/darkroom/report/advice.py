"""`darkroom advice`: what the stage stats has advised, without running it."""

from collections import Counter

from darkroom.data import advice, manifest
from darkroom.system import params
from darkroom.system.errors import UserError
from darkroom.system.files import read_csv

SIZES = "plots/image_sizes.csv"


def of_project() -> list[str]:
    """The advice for the training images and the params as they are.

    Raises:
        UserError: The stages split and stats have not run, or params.yaml cannot be read.
    """
    counts = Counter(row.label for row in manifest.read(None) if row.split == "train")
    sizes = Counter({(int(row["width"]), int(row["height"])): int(row["count"]) for row in read_csv(SIZES)})
    if not counts or not sizes:
        raise UserError(f"there are no training images in the manifest or in {SIZES}: run `dvc repro stats`")
    return advice.lines(counts, sizes, params.tree_of_params())
