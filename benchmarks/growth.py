"""Time and memory of split and stats as the data set grows: images a second and peak memory at each size.

    python benchmarks/growth.py [SIZE ...]

Small images of random blots, as PNG; a process a stage, measured by the kernel's own accounting.
"""

import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from darkroom.system import files
from darkroom.data.images import in_threads

ROOT = Path(__file__).resolve().parent.parent
SIDE = 48  # pixels


def main(sizes: list[int]) -> None:
    """Print the table, and write it to benchmarks/results/growth.md."""
    lines = ["| images | stage | images a second | peak memory (MiB) | cores busy |", "|---:|---|---:|---:|---:|"]
    seconds: dict[str, list[float]] = {"split": [], "stats": []}
    for size in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            project = Path(temporary)
            write_images(project / "data/raw", size)
            shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
            shutil.copytree(ROOT / "requirements", project / "requirements")
            for stage in seconds:
                wall, cpu, peak = measure(stage, project)
                seconds[stage].append(wall)
                lines.append(f"| {size:,} | {stage} | {size / wall:,.0f} | {peak:,.0f} | {cpu / wall:.1f} |")
    for stage, own in seconds.items():
        if len(own) > 1:
            exponent = math.log(own[-1] / own[-2]) / math.log(sizes[-1] / sizes[-2])
            lines.append(f"\n{stage}: time grows with the number of images to the power of {exponent:.2f} at the end.")
    table = (
        "\n".join(lines) + f"\n\n{SIDE} px PNG, n = 1, {os.cpu_count()} cores, Python {platform.python_version()}.\n"
    )
    print(table)
    files.write_bytes(ROOT / "benchmarks/results/growth.md", table.encode())


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


def measure(stage: str, project: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak memory in MiB of one run of a stage."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, ROOT / "src/darkroom", stage], cwd=project)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage} failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [1_000, 10_000, 100_000])
