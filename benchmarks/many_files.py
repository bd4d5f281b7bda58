"""Time and memory of DVC and the stages for many small images, as files and in archives.

    python benchmarks/many_files.py [--files 10000 100000] [--archives 10000 100000 1000000]

Each image is a PNG of random blots, 28 px, in ten classes. As files, `data/raw` and the sides have a folder per class. In
archives, `data/raw` has 1,000 images an archive, and `split.layout` is `shards`. The kernel counts time and memory of each step;
`split` is what the stage says of itself, in `dvc repro split`. Writes many_files.md.
"""

import io
import math
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import common
from common import Cost
from darkroom.system import git

SIDE = 28  # pixels, as in Fashion-MNIST
CLASSES = 10
IN_ARCHIVE = 1000
LOAD = """
from darkroom.data.sides import load_train_and_val
train, val = load_train_and_val()
"""
STEPS = ("dvc add", "dvc repro split", "split", "stats", "load", "dvc status")
LAST_LINE = re.compile(r"^\w+ took ([\d.]+) s and at most ([\d,]+) MiB$", re.MULTILINE)  # of a stage


def main() -> None:
    """Print the table, and write it to many_files.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--files", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--archives", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    kinds = {"files": options.files, "archives": options.archives}
    costs = {(kind, size): measure(kind, size) for kind, sizes in kinds.items() for size in sizes}
    rows = [
        [kind, f"{size:,}", step, f"{cost.seconds:,.1f}", busy(cost), f"{cost.peak:,.0f}"]
        for (kind, size), by_step in costs.items()
        for step, cost in by_step.items()
    ]
    header = ["images in", "images", "step", "seconds", "cores busy", "peak memory (MiB)"]
    text = common.table(header, rows, text=(0, 2)) + "".join(
        exponents(costs, kind, sizes) for kind, sizes in kinds.items()
    )
    text += (
        f"\n{SIDE} px PNG, n = 1; the search for look-alikes is off. "
        f"Peak memory is that of the largest process; load holds the pixels besides, at {SIDE} px. "
        f"{common.here('dvc')}. `python benchmarks/many_files.py`\n"
    )
    common.publish(text, options.results / "many_files.md")


def measure(kind: str, size: int) -> dict[str, Cost]:
    """What each step takes for `size` images in a new project."""
    layout = "files" if kind == "files" else "shards"
    changes: dict[str, dict[str, Any]] = {
        "split": {"layout": layout, "near_duplicate": 0},
        "images": {"resolution": SIDE},
    }
    with tempfile.TemporaryDirectory() as temporary:
        project = common.make_project(Path(temporary), changes)
        write(project / "data/raw", kind, size)
        git.read("init", "--quiet", cwd=project)
        dvc = common.command("dvc")
        costs, printed = {}, {}
        for step, command in {
            "dvc add": [*dvc, "add", "--quiet", "data/raw"],
            "dvc repro split": [*dvc, "repro", "split"],
            "stats": common.command("python", "src/darkroom", "stats"),
            "load": common.command("python", "-c", LOAD),
            "dvc status": [*dvc, "status", "--quiet", "split"],
        }.items():
            costs[step], printed[step] = cost(command, project)
            print(kind, f"{size:,}", step, costs[step], flush=True)
        [(seconds, peak)] = LAST_LINE.findall(printed["dvc repro split"])
        costs["split"] = Cost(float(seconds), math.nan, float(peak.replace(",", "")))
    return {step: costs[step] for step in STEPS}


def cost(command: list[str], project: Path) -> tuple[Cost, str]:
    """What a command takes, and what it prints. `dvc status` may say by its exit code that something has changed."""
    started = time.perf_counter()
    variables = common.variables() | {"PYTHONPATH": str(project / "src")}
    process = subprocess.Popen(command, cwd=project, env=variables, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and "status" not in command:
        sys.exit(f"{' '.join(command)} failed in {project}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), printed


def busy(cost: Cost) -> str:
    """The cores that were busy, or "" if this was not counted."""
    return "" if math.isnan(cost.cpu_seconds) else f"{cost.cpu_seconds / cost.seconds:.1f}"


def write(raw: Path, kind: str, size: int) -> None:
    """`size` different pictures as files, or in archives of class folders."""
    raw.mkdir(parents=True)
    if kind == "files":
        for name, data in pictures(range(size)):
            (raw / name).parent.mkdir(exist_ok=True)
            (raw / name).write_bytes(data)
        return
    for first in range(0, size, IN_ARCHIVE):
        with tarfile.open(raw / f"{first:07}.tar", "w") as archive:
            for name, data in pictures(range(first, min(size, first + IN_ARCHIVE))):
                header = tarfile.TarInfo(name)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))


def pictures(indices: range) -> Iterator[tuple[str, bytes]]:
    """The path and the bytes of a PNG for each index."""
    for index in indices:
        blots = np.random.default_rng(index).integers(0, 256, (7, 7), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(blots.repeat(4, 0).repeat(4, 1)).save(stream, "PNG", compress_level=1)
        yield f"class-{index % CLASSES}/{index:07}.png", stream.getvalue()


def exponents(costs: dict[tuple[str, int], dict[str, Cost]], kind: str, sizes: list[int]) -> str:
    """A sentence: how the time of each step grows between the last two sizes. "" if there is one size alone."""
    if len(sizes) < 2:
        return ""
    fewer, more = sizes[-2:]
    powers = (
        f"{step} {math.log(costs[kind, more][step].seconds / costs[kind, fewer][step].seconds) / math.log(more / fewer):.2f}"
        for step in STEPS
    )
    grows = f"In {kind}, from {fewer:,} to {more:,} images, time grows with the number of images to the power of"
    return f"\n{grows}: {', '.join(powers)}.\n"


if __name__ == "__main__":
    main()
