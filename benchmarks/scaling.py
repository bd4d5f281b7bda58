"""What a step costs with 1 and 2 workers, against a model of the cost; and what this model predicts for more.

    python benchmarks/scaling.py [--rounds 3]

The model: a step of W workers takes (shards / W) times the seconds of a shard, the seconds of what each worker does for itself
(the optimizer), and those of the exchange, in which each worker sends and receives 2 (W - 1) / W times the bytes of the gradient.
It is checked against two workers of one thread each on this machine's two cores. The predictions take a shard with two threads,
and assume that each worker has two cores, and memory, of its own. Writes scaling.md.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import common
from darkroom.data import demo

GIGABIT = 1e9 / 8  # bytes a second


def main() -> None:
    """Measure, predict, and write both."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "raw"
        demo.lay_out(images)
        rounds = [(measure(images, 1), measure(images, 2)) for _ in range(options.rounds)]
        alone = [measure(images, 1, "--threads", 2) for _ in range(options.rounds)]
    bandwidth = median(exchanged(two["bytes"], 2) / two["exchange"] for _, two in rounds)
    rows = [check(one, two) for one, two in rounds]
    header = ["1 worker (s a step)", "2 workers", "2 workers by the model", "measured / model"]
    text = "Checked: 4 shards of 8 images, one thread a worker.\n\n" + common.table(header, rows, text=())
    text += f"\nThe exchange between two processes by loopback: {bandwidth / 2**20:,.0f} MiB a second and direction.\n"
    text += "\nPredicted, not measured: EfficientNet-Lite0 at 160 px, two threads a worker.\n\n"
    text += predictions(alone, bandwidth)
    text += (
        f"\nn = {options.rounds}. {common.here('torch')}. `python benchmarks/scaling.py --rounds {options.rounds}`\n"
    )
    common.publish(text, options.results / "scaling.md")


def measure(images: Path, workers: int, *words: object) -> dict[str, float]:
    """What the first of so many workers says."""
    with tempfile.TemporaryDirectory() as temporary:
        meeting = Path(temporary) / "meeting"
        commands = [
            common.contender_command("worker.py", images, rank, workers, meeting, *words) for rank in range(workers)
        ]
        processes: list[Any] = [
            subprocess.Popen(
                command, cwd=common.ROOT, env=common.contender_variables(), stdout=subprocess.PIPE, text=True
            )
            for command in commands
        ]
        printed = [process.communicate()[0] for process in processes]
    found: dict[str, float] = json.loads(printed[0].splitlines()[-1])
    print(found, flush=True)
    return found


def exchanged(size: float, workers: int) -> float:
    """The bytes that a worker sends in a step."""
    return 2 * size * (workers - 1) / workers


def seconds(shards: int, workers: int, shard: float, rest: float, exchange: float) -> float:
    """The model."""
    return shards / workers * shard + rest + exchange


def check(one: dict[str, float], two: dict[str, float]) -> list[str]:
    """The measured step of two workers beside the model's, which knows one worker and the exchange."""
    rest = one["step"] - 4 * one["shard"]  # with what is done between the shards
    modelled = seconds(4, 2, one["shard"], rest, two["exchange"])
    cells = [one["step"], two["step"], modelled, two["step"] / modelled]
    return [f"{cell:.2f}" for cell in cells]


def predictions(alone: list[dict[str, float]], loopback: float) -> str:
    """Images a second by the number of workers and of machines, for batches of 32 in 4 shards and of 128 in 16."""
    shard, size = median(one["shard"] for one in alone), alone[0]["bytes"]
    rest = median(one["step"] - 4 * one["shard"] for one in alone)
    ways = {
        "1 machine": (1, loopback),
        "2 machines, 10 Gbit/s": (2, 10 * GIGABIT),
        "2 machines, 1 Gbit/s": (2, GIGABIT),
        "4 machines, 10 Gbit/s": (4, 10 * GIGABIT),
    }
    rows = []
    for (batch, shards), (name, (machines, bandwidth)) in (
        (size, way) for size in ((32, 4), (128, 16)) for way in ways.items()
    ):
        cells = []
        for workers in (1, 2, 4, 8, 16):
            if not machines <= workers <= shards:
                cells.append("")
                continue
            on_wire = exchanged(size, machines) * workers / machines / bandwidth if machines > 1 else 0.0
            within = exchanged(size, workers) / loopback if machines < workers else 0.0
            took = seconds(shards, workers, shard, rest, max(on_wire, within) if workers > 1 else 0.0)
            cells.append(f"{batch / took:,.0f}")
        rows.append([f"{batch} in {shards}", name, *cells])
    header = ["batch in shards", "where", *(f"{workers} workers" for workers in (1, 2, 4, 8, 16))]
    return common.table(header, rows, text=(0, 1)).replace("| 1 workers |", "| 1 worker |")


if __name__ == "__main__":
    main()
