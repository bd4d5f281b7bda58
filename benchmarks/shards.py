"""What the number of shards costs in time and in memory, on the cores of this machine, with one worker.

    python benchmarks/shards.py [--rounds 5]

Steps of the training loop on the demo at 160 px in batches of 32, with two threads and random flips, in a new process each. A
round is one run of each number, so that whatever else the machine does slows all of them alike. Writes shards.md.
"""

import tempfile
from collections import defaultdict
from pathlib import Path

import common
from darkroom.data import demo

SHARDS = (1, 2, 4, 8)
STEPS = 15
NETWORKS = {"lite0": "EfficientNet-Lite0", "small": "small CNN"}


def main() -> None:
    """Print the table, and write it to shards.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    peaks: dict[tuple[str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "raw"
        demo.lay_out(images)
        for _ in range(options.rounds):
            for network in NETWORKS:
                for shards in SHARDS:
                    words = ("--shards", shards, "--resolution", 160, "--steps", STEPS)
                    printed = common.run_contender("ours.py", images, network, "portable", 1000, *words).split()
                    peaks[network, shards].append(float(printed[-2]))
                    rates[network, shards].append(float(printed[-1]))
                    print(network, shards, *printed[-2:], flush=True)
    rows = (
        [
            title,
            str(shards),
            common.spread(rates[network, shards], ".0f"),
            common.spread(mine / one for mine, one in zip(rates[network, shards], rates[network, 1], strict=True)),
            common.spread(peaks[network, shards], ".0f"),
        ]
        for network, title in NETWORKS.items()
        for shards in SHARDS
    )
    text = common.table(["network", "shards", "images a second", "against 1 shard", "peak, MiB"], rows)
    text += (
        f"\nMedian (range) of n = {options.rounds} rounds of {STEPS} steps; 160 px, batches of 32, flips, AdamW, 2 threads, "
        f"1 worker. {common.here('torch', 'timm')}. `python benchmarks/shards.py --rounds {options.rounds}`\n"
    )
    common.publish(text, options.results / "shards.md")


if __name__ == "__main__":
    main()
