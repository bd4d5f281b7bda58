"""Time and memory of split and stats as the data set grows: images a second and peak memory at each size.

    python benchmarks/growth.py [1000 10000 100000]

The images are small PNG files of random blots, for the rows `framed` with a white border. Each stage runs in a new process, whose
time and memory the kernel counts. The last line is about photos of 12 megapixels.
"""

import tempfile
from math import log
from pathlib import Path

import numpy as np
from PIL import Image

import common
from common import Cost
from darkroom.system.parallel import in_threads

SIDE = 48  # pixels
FRAME = 6  # pixels of the border
STAGES = ("split", "stats")
PHOTOS, PHOTO = 96, (4000, 3000)  # two of each, as different JPEG files, in two classes


def main() -> None:
    """Print the table, and write it to growth.md."""
    parser = common.parser(__doc__)
    parser.add_argument("sizes", nargs="*", type=int, metavar="SIZE", help="how many images")
    options = parser.parse_args()
    sizes = options.sizes or [1_000, 10_000, 100_000]
    costs = {size: measure(size) for size in sizes}
    header = ["images", "stage", "images a second", "peak memory (MiB)", "cores busy"]
    rows = [
        [
            f"{size:,}",
            stage,
            f"{size / cost.seconds:,.0f}",
            f"{cost.peak:,.0f}",
            f"{cost.cpu_seconds / cost.seconds:.1f}",
        ]
        for size, by_stage in costs.items()
        for stage, cost in by_stage.items()
    ]
    text = common.table(header, rows, text=(1,)) + "".join(f"\n{line}\n" for line in exponents(costs))
    of_photos = " and ".join(f"{stage} {cost.peak:,.0f} MiB" for stage, cost in photos().items())
    text += f"\nPeak memory with {PHOTOS} photos of {PHOTO[0] * PHOTO[1] / 1e6:.0f} megapixels: {of_photos}.\n"
    text += f"\n{SIDE} px PNG, n = 1; peak memory is that of the largest process. {common.here()}.\n"
    common.publish(text, options.results / "growth.md")


def measure(size: int) -> dict[str, Cost]:
    """What each stage takes for `size` images, and what split takes for framed ones."""
    costs: dict[str, Cost] = {}
    for frame, stages in ((0, STAGES), (FRAME, ("split",))):
        with tempfile.TemporaryDirectory() as temporary:
            project = common.make_project(Path(temporary))
            write_images(project / "data/raw", size, frame)
            name = "{}, framed" if frame else "{}"
            costs |= {name.format(stage): common.run_stage(stage, project) for stage in stages}
    return costs


def write_images(raw: Path, size: int, frame: int) -> None:
    """`size` different pictures in four classes, with a white border of `frame` pixels."""

    def write(index: int) -> None:
        picture = Image.new("L", (SIDE, SIDE), 255)
        picture.paste(blots(index, (SIDE - 2 * frame, SIDE - 2 * frame)), (frame, frame))
        save(picture, raw / f"class-{index % 4}" / f"{index:06d}.png")

    for _ in in_threads(write, range(size)):
        pass


def photos() -> dict[str, Cost]:
    """What each stage takes for large JPEG files."""
    with tempfile.TemporaryDirectory() as temporary:
        project = common.make_project(Path(temporary))
        for index in range(PHOTOS):
            picture = blots(index // 2, PHOTO).convert("RGB")
            save(
                picture, project / "data/raw" / f"class-{index * 2 // PHOTOS}" / f"{index}.jpg", quality=75 + index % 2
            )
        return {stage: common.run_stage(stage, project) for stage in STAGES}


def blots(seed: int, size: tuple[int, int]) -> Image.Image:
    """A grey picture of random blots."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)).resize(size)


def save(picture: Image.Image, path: Path, quality: int = 75) -> None:
    """Write a picture, and its class folder if it is the first one. PNG has no quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=quality)


def exponents(costs: dict[int, dict[str, Cost]]) -> list[str]:
    """A sentence per stage: how its time grows between the last two sizes. None if there is one size alone."""
    if len(costs) < 2:
        return []
    (fewer, before), (more, after) = list(costs.items())[-2:]
    return [
        f"{stage}: from {fewer:,} to {more:,} images, time grows with the number of images to the power of "
        f"{log(after[stage].seconds / before[stage].seconds) / log(more / fewer):.2f}."
        for stage in after
    ]


if __name__ == "__main__":
    main()
