"""Training images a second: Darkroom against its ceiling, fastai, plain PyTorch, its own native mode, and itself from a file.

    python benchmarks/throughput.py [--rounds 5] [--peers .venv-bench/bin/python]

On the demo at 128 px in batches of 32, with random flips, AdamW, two threads. Each contender runs in a process of its own;
all of them in turn make a round, so that what else the machine does hits each alike. Ratios are taken within a round.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from darkroom import demo, environment, files

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ROOT / "benchmarks/contenders"
# name -> (script, network, mode, MiB of pixels held in memory)
RUNS = {
    "ours, lite0": ("ours.py", "lite0", "portable", "1000"),
    "ceiling, lite0": ("ceiling.py", "lite0", "portable"),
    "ours native, lite0": ("ours.py", "lite0", "native", "1000"),
    "ours from a file, lite0": ("ours.py", "lite0", "portable", "0"),
    "plain PyTorch, lite0": ("plain.py", "lite0", ""),
    "fastai, lite0": ("fast_ai.py", "lite0", ""),
    "ours, small": ("ours.py", "small", "portable", "1000"),
    "ceiling, small": ("ceiling.py", "small", "portable"),
    "ours native, small": ("ours.py", "small", "native", "1000"),
    "ours from a file, small": ("ours.py", "small", "portable", "0"),
}
# (what, ours, the other)
RATIOS = [
    ("EfficientNet-Lite0 against the bare step", "ours, lite0", "ceiling, lite0"),
    ("EfficientNet-Lite0 against fastai", "ours, lite0", "fastai, lite0"),
    ("EfficientNet-Lite0 against plain PyTorch", "ours, lite0", "plain PyTorch, lite0"),
    ("EfficientNet-Lite0, native, against fastai", "ours native, lite0", "fastai, lite0"),
    ("EfficientNet-Lite0, native, against plain PyTorch", "ours native, lite0", "plain PyTorch, lite0"),
    ("small CNN against the bare step", "ours, small", "ceiling, small"),
    ("EfficientNet-Lite0, portable against native", "ours, lite0", "ours native, lite0"),
    ("small CNN, portable against native", "ours, small", "ours native, small"),
    ("EfficientNet-Lite0, pixels in a file against in memory", "ours from a file, lite0", "ours, lite0"),
    ("small CNN, pixels in a file against in memory", "ours from a file, small", "ours, small"),
]


def main() -> None:
    """Print the table, and write it to benchmarks/results/throughput.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=Path, help="the Python of an environment that has fastai; left out without")
    options = parser.parse_args()
    names = [name for name in RUNS if options.peers or not name.startswith("fastai")]
    rates: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        demo.lay_out(Path(temporary) / "raw")
        for _ in range(options.rounds):
            for name in names:
                rates[name].append(rate(name, Path(temporary) / "raw", options.peers))
                print(f"{name}: {rates[name][-1]:.1f} images a second", flush=True)
    text = "\n".join(table(rates, options.rounds)) + "\n"
    print(text)
    files.write_bytes(ROOT / "benchmarks/results/throughput.md", text.encode())


def rate(name: str, folder: Path, peers: Path | None) -> float:
    """Images a second of one run."""
    script, *words = RUNS[name]
    python = str(peers) if name.startswith("fastai") and peers else sys.executable
    own = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [python, "-W", "ignore", str(CONTENDERS / script), str(folder), *words]
    done = subprocess.run(
        command, cwd=ROOT, env={**own, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def table(rates: Mapping[str, Sequence[float]], rounds: int) -> Iterator[str]:
    """Markdown: the ratios first, then the rates."""
    yield "| what | ours | the other | ratio: median (range) |"
    yield "|---|---:|---:|---:|"
    for what, ours, other in RATIOS:
        if other in rates:
            ratios = [a / b for a, b in zip(rates[ours], rates[other], strict=True)]
            medians = (statistics.median(rates[name]) for name in (ours, other))
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            yield f"| {what} | {' | '.join(f'{rate:.0f}' for rate in medians)} | {spread} |"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm"))
    yield (
        f"\nTraining images a second, medians of n = {rounds} rounds; 128 px, batches of 32, flips, AdamW, 2 threads. "
        f"{environment.cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}. "
        "`python benchmarks/throughput.py`"
    )


if __name__ == "__main__":
    main()
