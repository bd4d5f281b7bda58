"""Time and memory of split and stats as the data set grows: images a second and peak memory at each size.

    python benchmarks/growth.py [1000 10000 100000]

The images are small PNG files of random blots. Each stage runs in a new process, whose time and memory the kernel counts.
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
STAGES = ("split", "stats")


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
    text += f"\n{SIDE} px PNG, n = 1; peak memory is that of the largest process. {common.here()}.\n"
    common.publish(text, options.results / "growth.md")


def measure(size: int) -> dict[str, Cost]:
    """What each stage takes for `size` images."""
    with tempfile.TemporaryDirectory() as temporary:
        project = common.make_project(Path(temporary))
        write_images(project / "data/raw", size)
        return {stage: common.run_stage(stage, project) for stage in STAGES}


def write_images(raw: Path, size: int) -> None:
    """`size` different pictures in four classes."""

    def write(index: int) -> None:
        generator = np.random.default_rng(index)
        blots = Image.fromarray(generator.integers(0, 256, (6, 6), dtype=np.uint8)).resize((SIDE, SIDE))
        folder = raw / f"class-{index % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        blots.save(folder / f"{index:06d}.png")

    for _ in in_threads(write, range(size)):
        pass


def exponents(costs: dict[int, dict[str, Cost]]) -> list[str]:
    """A sentence per stage: how its time grows between the last two sizes. None if there is one size alone."""
    if len(costs) < 2:
        return []
    (fewer, before), (more, after) = list(costs.items())[-2:]
    return [
        f"{stage}: from {fewer:,} to {more:,} images, time grows with the number of images to the power of "
        f"{log(after[stage].seconds / before[stage].seconds) / log(more / fewer):.2f}."
        for stage in STAGES
    ]


if __name__ == "__main__":
    main()
