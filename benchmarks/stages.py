"""Time and peak memory of every stage at the demo's size and at 4 and 16 times that, and how fast they grow.

    python benchmarks/stages.py [--times 1 4 16] [--resolution 64] [--epochs 1]

A larger set has each image of the demo in up to 16 versions: in the eight orientations of a square, and the negatives of those.
No two versions are the same image. Each stage runs in a new process, whose time and memory the kernel counts. How much memory
pixels may take is set by images.memory.
"""

import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import common
from common import Cost
from darkroom.data import demo
from darkroom.data.images import list_images
from darkroom.system.parallel import in_threads

ORIENTATIONS = [None, *Image.Transpose]
VERSIONS = list(product((False, True), ORIENTATIONS))  # 16; the first is the image itself


def main() -> None:
    """Print the table, and write it to stages.md."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--times", type=int, nargs="+", default=[1, 4, 16], help="sizes, in sizes of the demo; up to 16"
    )
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    costs = {times: measure(times, options.resolution, options.epochs) for times in options.times}
    used = f"--times {' '.join(map(str, costs))} --resolution {options.resolution} --epochs {options.epochs}"
    sample = common.read_params()["tsne"]["max_images"]
    note = (
        f"\nThe demo's 2,624 images, as many times as the column says; {options.resolution} px, epochs per training: "
        f"{options.epochs}, n = 1; peak memory is that of the largest process. tsne looks at a sample if there are more than "
        f"{sample:,} images. {common.here()}. `python benchmarks/stages.py {used}`\n"
    )
    common.publish(table(costs) + note, options.results / "stages.md")


def measure(times: int, resolution: int, epochs: int) -> dict[str, Cost]:
    """What each stage of dvc.yaml takes for `times` the demo."""
    with tempfile.TemporaryDirectory() as temporary:
        project = common.make_project(Path(temporary), {"images": {"resolution": resolution}})
        tree = common.read_params(project)
        common.change_params(
            project, {name: {"epochs": epochs} for name in common.trainings(tree) if "epochs" in tree[name]}
        )
        lay_out(project / "data/raw", times)
        return dict(run_all(project, times))


def run_all(project: Path, times: int) -> Iterator[tuple[str, Cost]]:
    """Run every stage; its name and what it takes."""
    for name in common.stages():
        cost = common.run_stage(name, project)
        print(f"{times} x, {name}: {cost.seconds:.1f} s, {cost.peak:.0f} MiB", flush=True)
        yield name, cost


def lay_out(raw: Path, times: int) -> None:
    """Write each image of the demo in the first `times` of the versions."""
    demo.lay_out(raw)

    def write(path: str) -> None:
        with Image.open(raw / path) as picture:
            for number, (negative, orientation) in enumerate(VERSIONS[1:times]):
                other = picture if orientation is None else picture.transpose(orientation)
                other = ImageOps.invert(other) if negative else other
                other.save((raw / path).with_suffix(f".{number}.png"), compress_level=1)

    for _ in in_threads(write, list_images(raw)):
        pass


def table(costs: dict[int, dict[str, Cost]]) -> str:
    """Markdown, a row per stage. The exponent is that between the last two sizes, where the start of a process counts least."""
    sizes = [f"{times} x" for times in costs]
    header = ["stage", *sizes, "exponent at the end", *(f"peak MiB: {size}" for size in sizes)]
    rows = []
    for name in common.stages():
        seconds, peaks = ([getattr(of_size[name], what) for of_size in costs.values()] for what in ("seconds", "peak"))
        exponent = f"{np.diff(np.log(seconds))[-1] / np.diff(np.log(list(costs)))[-1]:.2f}" if len(costs) > 1 else ""
        rows.append([name, *(f"{value:.1f} s" for value in seconds), exponent, *(f"{peak:.0f}" for peak in peaks)])
    return common.table(header, rows)


if __name__ == "__main__":
    main()
