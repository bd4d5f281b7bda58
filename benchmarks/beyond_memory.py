"""Training on pixels that memory does not hold: images a second, and page faults that the disk served.

    python benchmarks/beyond_memory.py --group /sys/fs/cgroup/memory/small [--rounds 3]

GROUP is a control group whose memory is limited, so that the kernel cannot keep the file of pixels. As root, for example:

    mkdir /sys/fs/cgroup/memory/small && echo 1300M > /sys/fs/cgroup/memory/small/memory.limit_in_bytes

The images are the demo's, each six times, at 160 px: 1.1 GiB of pixels. Writes beyond_memory.md.
"""

import os
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import common
from darkroom.data import demo

COPIES = 6
STEPS = 480  # batches of 32: nearly all images
WAYS = {"in memory": (4096, False), "in a file": (0, False), "in a file, and memory is limited": (0, True)}


class Found(NamedTuple):
    """What a run took: images a second, its peak in MiB, and page faults that had to wait for the disk."""

    rate: float
    peak: float
    faults: int


def main() -> None:
    """Print the table, and write it to beyond_memory.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--group", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[Found]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "raw"
        demo.lay_out(images)
        for path in list(images.glob("*/*")):
            for copy in range(1, COPIES):
                os.link(path, path.with_name(f"{copy}-{path.name}"))
        for _ in range(options.rounds):
            for name, (memory, limited) in WAYS.items():
                found[name].append(train(images, memory, options.group if limited else None))
                print(name, found[name][-1], flush=True)
    rows = [
        [
            name,
            common.spread([one.rate for one in of], ".0f"),
            common.spread([one.rate / first.rate for one, first in zip(of, found["in memory"], strict=True)]),
            common.spread([one.peak for one in of], ",.0f"),
            common.spread([one.faults for one in of], ",.0f"),
        ]
        for name, of in found.items()
    ]
    header = ["pixels", "images a second", "against memory", "peak (MiB)", "page faults from the disk"]
    limit = next(options.group.glob("memory.limit_in_bytes"), None) or options.group / "memory.max"
    size = 2624 * COPIES * 160**2 * 3 / 2**30
    text = common.table(header, rows) + (
        f"\nSmall CNN, 160 px, {STEPS} batches of 32 of {2624 * COPIES:,} images; {size:.1f} GiB of pixels; "
        f"the limit is {int(limit.read_text()) / 2**20:,.0f} MiB. n = {options.rounds}. {common.here('torch')}. "
        f"`python benchmarks/beyond_memory.py --group GROUP`\n"
    )
    common.publish(text, options.results / "beyond_memory.md")


def train(images: Path, memory: int, group: Path | None) -> Found:
    """One run, in the control group if there is one."""

    def enter() -> None:
        if group:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    words = (images, "small", "portable", memory, "--resolution", 160, "--steps", STEPS)
    process = subprocess.Popen(
        common.contender_command("ours.py", *words),
        cwd=common.ROOT,
        env=common.contender_variables(),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=enter,
    )
    assert process.stdout is not None
    printed = process.stdout.read().split()
    _, _, usage = os.wait4(process.pid, 0)
    return Found(float(printed[-1]), float(printed[-2]), usage.ru_majflt)


if __name__ == "__main__":
    main()
