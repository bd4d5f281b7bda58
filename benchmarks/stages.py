"""Time and peak memory of every stage at the demo's size and at 4 and 16 times that, and how fast they grow.

    python benchmarks/stages.py [--times 1 4 16] [--resolution 64] [--epochs 1]

A larger set is the demo turned and mirrored in the eight ways of a square, and those as negatives: no two look alike. A process a
stage, measured by the kernel's own accounting. Memory that the pixels take is a matter of images.memory.
"""

import argparse
import os
import platform
import shutil
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import yaml
from growth import ROOT, measure
from PIL import Image, ImageOps

from darkroom import runner
from darkroom.data import demo
from darkroom.system import environment, files, params
from darkroom.data.images import in_threads, list_images

TURNS = [None, *Image.Transpose]
WAYS = list(product((False, True), TURNS))  # 16


def main() -> None:
    """Print the table, and write it to benchmarks/results/stages.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    found = {times: run(times, options.resolution, options.epochs) for times in options.times}
    text = "\n".join(table(found, options.resolution, options.epochs)) + "\n"
    print(text)
    files.write_bytes(ROOT / "benchmarks/results/stages.md", text.encode())


def run(times: int, resolution: int, epochs: int) -> dict[str, tuple[float, float]]:
    """Wall seconds and peak MiB of each stage, on `times` the demo."""
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary)
        multiply(project / "data/raw", times)
        shutil.copytree(ROOT / "requirements", project / "requirements")
        shutil.copytree(ROOT / "weights", project / "weights")
        tree = yaml.safe_load((ROOT / "params.yaml").read_text())
        tree["images"]["resolution"] = resolution
        for name in ("train_scratch", "train_finetune"):
            tree[name]["epochs"] = epochs
        (project / "params.yaml").write_text(yaml.safe_dump(tree))
        for name in runner.STAGES:
            wall, _, peak = measure(name, project)
            results[name] = wall, peak
            print(f"{times} x, {name}: {wall:.1f} s, {peak:.0f} MiB", flush=True)
    return results


def multiply(raw: Path, times: int) -> None:
    """The demo in `times` of the 16 ways."""
    demo.lay_out(raw)

    def write(path: str) -> None:
        with Image.open(raw / path) as picture:
            for number, (negative, turn) in enumerate(WAYS[1:times]):
                other = picture if turn is None else picture.transpose(turn)
                other = ImageOps.invert(other) if negative else other
                other.save((raw / path).with_suffix(f".{number}.png"), compress_level=1)

    for _ in in_threads(write, list_images(raw)):
        pass


def table(found: dict[int, dict[str, tuple[float, float]]], resolution: int, epochs: int) -> list[str]:
    """Markdown: a row a stage; the exponent is that between the two largest sizes, where the start of a process counts least."""
    sizes = list(found)
    header = " | ".join(f"{times} x" for times in sizes)
    lines = [
        f"| stage | {header} | exponent at the end | peak MiB: {header} |",
        "|---|" + "---:|" * (2 * len(sizes) + 1),
    ]
    for name in runner.STAGES:
        seconds, peaks = zip(*(found[times][name] for times in sizes), strict=True)
        exponent = f"{np.diff(np.log(seconds))[-1] / np.diff(np.log(sizes))[-1]:.2f}" if len(sizes) > 1 else ""
        cells = [*(f"{value:.1f} s" for value in seconds), exponent, *(f"{peak:.0f}" for peak in peaks)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    sample = params.read(ROOT / "params.yaml")["tsne"]["max_images"]
    lines.append(
        f"\nThe demo's 2,624 images once, and so often; {resolution} px, {epochs} epoch each, n = 1. tsne draws a sample of "
        f"{sample:,} from more. {environment.cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}. "
        f"`python benchmarks/stages.py --times {' '.join(map(str, sizes))} --resolution {resolution} --epochs {epochs}`"
    )
    return lines


if __name__ == "__main__":
    main()
