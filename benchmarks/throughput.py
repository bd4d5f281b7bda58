"""Training images a second: Darkroom against its ceiling, fastai, plain PyTorch, its own native mode, and itself from a file.

    python benchmarks/throughput.py [--rounds 5] [--peers .venv-bench/bin/python]

On the demo at 128 px in batches of 32, with random flips, AdamW, two threads. Each contender runs in a process of its own;
all of them in turn make a round, so that what else the machine does hits each alike. Ratios are taken within a round. A single
round is a look: nothing is written.
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

from darkroom.data import demo
from darkroom.system import environment, files

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ROOT / "benchmarks/contenders"
# name -> (script, network, mode, MiB of pixels held in memory)
RUNS = {
    "ours, lite0": ("ours.py", "lite0", "portable", "1000"),
    "ceiling, lite0": ("ceiling.py", "lite0", "portable"),
    "ours native, lite0": ("ours.py", "lite0", "native", "1000"),
    "ceiling native, lite0": ("ceiling.py", "lite0", "native"),
    "ours from a file, lite0": ("ours.py", "lite0", "portable", "0"),
    "plain PyTorch, lite0": ("plain.py", "lite0", ""),
    "fastai, lite0": ("fast_ai.py", "lite0", ""),
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
    text = "\n".join(table(rates, options.rounds, options.peers)) + "\n"
    print(text)
    if options.rounds > 1:
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


def table(rates: Mapping[str, Sequence[float]], rounds: int, peers: Path | None) -> Iterator[str]:
    """Markdown: the ratios first, then the rates."""
    yield "| what | ours | the other | ratio: median (range) |"
    yield "|---|---:|---:|---:|"
    for what, ours, other in RATIOS:
        if other in rates:
            ratios = [a / b for a, b in zip(rates[ours], rates[other], strict=True)]
            medians = (statistics.median(rates[name]) for name in (ours, other))
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            yield f"| {what} | {' | '.join(f'{rate:.0f}' for rate in medians)} | {spread} |"
    versions = [f"{name} {version(name)}" for name in ("torch", "torchvision", "timm")]
    versions += [f"fastai {fastai_version(peers)}"] if peers else []
    yield (
        f"\nTraining images a second, medians of n = {rounds} rounds of 640 images; 128 px, batches of 32, flips, AdamW, 2 "
        "threads. Ours decodes once, before the clock starts; the peers decode in each epoch, as they always do. The file lay in "
        f"the system's cache. {environment.cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{', '.join(versions)}. `python benchmarks/throughput.py --rounds {rounds} --peers PYTHON`"
    )


def fastai_version(peers: Path) -> str:
    """Of the environment whose Python `peers` is."""
    command = [str(peers), "-c", "from importlib.metadata import version; print(version('fastai'))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
