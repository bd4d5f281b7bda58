"""Darkroom's training loop on a GPU against the bare training step there, and whether it repeats its bytes.

    python benchmarks/gpu.py [--rounds 3] [--images FOLDER]

Both train at 160 px from pixels on the card, in a process each, in turn. `run.shards` is 1. Writes gpu.md.
"""

import tempfile
from collections import defaultdict
from itertools import product
from pathlib import Path

import torch

import common
from darkroom.data import demo

NETWORKS = {"lite0": "EfficientNet-Lite0", "small": "small CNN"}
PRECISIONS = ("float32", "bfloat16")
BATCHES = (32, 128, 512)
IMAGES = 2560  # an epoch of the loop; as many pass through it while the clock runs


def main() -> None:
    """Print the table, and write it to gpu.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=Path, help="a folder of class folders; the demo's by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if (images := options.images) is None:
            demo.lay_out(images := Path(temporary) / "raw")
        rows = [row(images, *how, options.rounds) for how in product(NETWORKS, PRECISIONS, BATCHES)]
    header = ["network", "precision", "batch", "ours", "bare step", "ratio", "the same bytes"]
    text = common.table(header, rows, text=(0, 1, 6))
    text += (
        f"\nImages a second: median (range) of n = {options.rounds} pairs of runs; {IMAGES:,} images at 160 px, AdamW, flips. "
        f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}. {common.here('torch', 'timm')}. `python benchmarks/gpu.py`\n"
    )
    common.publish(text, options.results / "gpu.md")


def row(images: Path, network: str, precision: str, batch: int, rounds: int) -> list[str]:
    """A line of the table."""
    rates: dict[str, list[float]] = defaultdict(list)
    digests = set()
    words = ("--batch", batch, "--resolution", 160, "--device", "cuda", "--precision", precision)
    for _ in range(rounds):
        alone = ("--shards", 1, "--steps", IMAGES // batch)
        printed = common.run_contender("ours.py", images, network, "native", 2048, *words, *alone).split()
        digests.add(printed[-3])
        rates["ours"].append(float(printed[-1]))
        rates["bare"].append(float(common.run_contender("ceiling.py", images, network, "native", *words)))
        print(network, precision, batch, rates["ours"][-1], rates["bare"][-1], flush=True)
    ratios = [ours / bare for ours, bare in zip(rates["ours"], rates["bare"], strict=True)]
    cells = [common.spread(rates["ours"], ",.0f"), common.spread(rates["bare"], ",.0f"), common.spread(ratios)]
    return [NETWORKS[network], precision, str(batch), *cells, "yes" if len(digests) == 1 else "no"]


if __name__ == "__main__":
    main()
