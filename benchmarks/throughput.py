"""Training images a second: Darkroom against its ceiling, fastai, plain PyTorch, its native mode, and itself from a file.

    python benchmarks/throughput.py [--rounds 5] [--peers .venv-bench/bin/python]

On the demo at 128 px in batches of 32, with random flips, AdamW and two threads. Each contender runs in a new process. A round
is one run of each, so that whatever else the machine does slows all of them alike. Ratios are of two runs of the same round. A
single round is a trial: nothing is written.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import common
from darkroom.data import demo

# name -> (script, network, mode, MiB of pixels held in memory)
RUNS = {
    "ours, lite0": ("ours.py", "lite0", "portable", "1000"),
    "ceiling, lite0": ("ceiling.py", "lite0", "portable"),
    "ours native, lite0": ("ours.py", "lite0", "native", "1000"),
    "ceiling native, lite0": ("ceiling.py", "lite0", "native"),
    "ours from a file, lite0": ("ours.py", "lite0", "portable", "0"),
    "plain PyTorch, lite0": ("plain.py", "lite0"),
    "fastai, lite0": ("fast_ai.py", "lite0"),
    "ours, small": ("ours.py", "small", "portable", "1000"),
    "ceiling, small": ("ceiling.py", "small", "portable"),
    "ours native, small": ("ours.py", "small", "native", "1000"),
    "ceiling native, small": ("ceiling.py", "small", "native"),
    "ours from a file, small": ("ours.py", "small", "portable", "0"),
}
# (what, ours, the other)
RATIOS = [
    ("EfficientNet-Lite0 against the bare step with the same kernels", "ours, lite0", "ceiling, lite0"),
    ("EfficientNet-Lite0 against the bare step with this CPU's fastest", "ours, lite0", "ceiling native, lite0"),
    ("EfficientNet-Lite0, native, against the bare step with the same", "ours native, lite0", "ceiling native, lite0"),
    ("EfficientNet-Lite0 against fastai", "ours, lite0", "fastai, lite0"),
    ("EfficientNet-Lite0 against plain PyTorch", "ours, lite0", "plain PyTorch, lite0"),
    ("EfficientNet-Lite0, native, against fastai", "ours native, lite0", "fastai, lite0"),
    ("EfficientNet-Lite0, native, against plain PyTorch", "ours native, lite0", "plain PyTorch, lite0"),
    ("small CNN against the bare step with the same kernels", "ours, small", "ceiling, small"),
    ("small CNN against the bare step with this CPU's fastest", "ours, small", "ceiling native, small"),
    ("small CNN, native, against the bare step with the same", "ours native, small", "ceiling native, small"),
    ("EfficientNet-Lite0, pixels in a file against in memory", "ours from a file, lite0", "ours, lite0"),
    ("small CNN, pixels in a file against in memory", "ours from a file, small", "ours, small"),
]


def main() -> None:
    """Print the table, and write it to throughput.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peers", type=Path, help="the Python of an environment with fastai; without it, fastai is left out"
    )
    options = parser.parse_args()
    names = [name for name in RUNS if options.peers or not name.startswith("fastai")]
    rates: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "raw"
        demo.lay_out(images)
        for _ in range(options.rounds):
            for name in names:
                rates[name].append(measure(name, images, options.peers))
                print(f"{name}: {rates[name][-1]:.1f} images a second", flush=True)
    text = common.table(["what", "ours", "the other", "ratio: median (range)"], rows(rates))
    versions = common.here("torch", "torchvision", "timm")
    versions += f", fastai {common.version_in(options.peers, 'fastai')}" if options.peers else ""
    text += (
        f"\nTraining images a second, medians of n = {options.rounds} rounds of 640 images; 128 px, batches of 32, flips, AdamW, "
        "2 threads. Ours decodes once, before the clock starts; the peers decode in each epoch, as they always do. The file was "
        f"in the system's cache. {versions}. `python benchmarks/throughput.py --rounds {options.rounds} --peers PYTHON`\n"
    )
    common.publish(text, options.results / "throughput.md" if options.rounds > 1 else None)


def measure(name: str, images: Path, peers: Path | None) -> float:
    """Images a second of one run. It is the last word that a contender prints."""
    script, *arguments = RUNS[name]
    python = peers if peers and name.startswith("fastai") else sys.executable
    return float(common.run_contender(script, images, *arguments, python=python).split()[-1])


def rows(rates: Mapping[str, Sequence[float]]) -> Iterator[list[str]]:
    """A row per ratio whose two contenders were run."""
    for what, ours, other in RATIOS:
        if other in rates:
            ratios = (mine / theirs for mine, theirs in zip(rates[ours], rates[other], strict=True))
            yield [what, f"{median(rates[ours]):.0f}", f"{median(rates[other]):.0f}", common.spread(ratios)]


if __name__ == "__main__":
    main()
