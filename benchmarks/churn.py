"""How many former test images become training images when the data set grows: hash mode against shuffle mode.

    python benchmarks/churn.py

The first data set is five sixths of the demo. Images of the rest are then added. Which images are in the first set and which are
added is random, and is repeated ten times.
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import common
from darkroom.data import demo
from darkroom.data.assignment import Image
from darkroom.data.images import list_images
from darkroom.stages import split
from darkroom.system import files

REPEATS = 10
SHARES = (0.01, 0.05, 0.20)  # of the first data set, that are added


def main() -> None:
    """Print the table, and write it to churn.md."""
    options = common.parser(__doc__).parse_args()
    images = demo_images()
    header = ["images added", "mode", "former test images now in train: median (range)", "of test images"]
    common.publish(
        common.table(header, rows(images), text=(1,))
        + f"\n{len(images)} images in all, n = {REPEATS} random choices of the first and the added images.\n",
        options.results / "churn.md",
    )


def demo_images() -> list[Image]:
    """The images of the demo, as the stage split sees them. Look-alikes are not looked for."""
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary, "raw")
        demo.lay_out(raw)
        return [Image(path, path, "", files.sha256((raw / path).read_bytes()), b"") for path in list_images(raw)]


def rows(images: list[Image]) -> Iterator[list[str]]:
    """A row per share of added images and mode of the split."""
    choices = split.Params.model_validate(common.read_params()["split"])
    for share in SHARES:
        for mode in ("hash", "shuffle"):
            of_mode = choices.model_copy(update={"mode": mode})
            moved, tests = zip(*(count_moved(images, share, of_mode, seed) for seed in range(REPEATS)), strict=True)
            yield [f"{share:.0%}", mode, common.spread(moved, ".0f"), f"{median(tests):.0f}"]


def count_moved(images: list[Image], share: float, choices: split.Params, seed: int) -> tuple[int, int]:
    """How many test images of the first data set are in train after it grew by `share`, and how many test images it had.

    `seed` decides which images are in the first data set, and which are added.
    """
    shuffled = random.Random(seed).sample(images, len(images))
    first = shuffled[: len(images) * 5 // 6]
    grown = shuffled[: round(len(first) * (1 + share))]
    before = {image.path: side for image, side in zip(first, split.assign(first, choices)[0], strict=True)}
    after = {image.path: side for image, side in zip(grown, split.assign(grown, choices)[0], strict=True)}
    tests = [path for path, side in before.items() if side == "test"]
    return sum(after[path] == "train" for path in tests), len(tests)


if __name__ == "__main__":
    main()
