"""How many former test images become training images when the data set grows: hash mode against shuffle mode.

    python benchmarks/churn.py

Of the demo, five sixths are the first data set; images of the rest, drawn at random, are added. Ten draws each.
"""

import random
import statistics
import tempfile
from pathlib import Path

from darkroom.data import demo
from darkroom.stages import split
from darkroom.system import files, params
from darkroom.data.images import list_images

DRAWS = 10


def main() -> None:
    """Print the table, and write it to benchmarks/results/churn.md."""
    choices = params.load("split", split.Params)
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary, "raw")
        demo.lay_out(raw)
        images = [
            split.Image(path, path, "", files.sha256((raw / path).read_bytes()), b"") for path in list_images(raw)
        ]
    lines = [
        "| images added | mode | former test images now in train: median (range) | of test images |",
        "|---:|---|---:|---:|",
    ]
    for share in (0.01, 0.05, 0.20):
        for mode in ("hash", "shuffle"):
            counts, tests = zip(*(leaked(images, share, mode, choices, draw) for draw in range(DRAWS)), strict=True)
            lines.append(
                f"| {share:.0%} | {mode} | {statistics.median(counts):.0f} ({min(counts)}-{max(counts)}) "
                f"| {statistics.median(tests):.0f} |"
            )
    table = "\n".join(lines) + f"\n\n{len(images)} images in all, n = {DRAWS} draws of which images are added.\n"
    print(table)
    files.write_bytes("benchmarks/results/churn.md", table.encode())


def leaked(images: list[split.Image], share: float, mode: str, choices: split.Params, draw: int) -> tuple[int, int]:
    """How many test images of the first data set are in train after it grew by `share`; and how many there were."""
    shuffled = random.Random(draw).sample(images, len(images))
    first = shuffled[: len(images) * 5 // 6]
    grown = shuffled[: round(len(first) * (1 + share))]
    own = choices.model_copy(update={"mode": mode})
    before = {one.path: side for one, side in zip(first, split.assign(first, own), strict=True)}
    after = {one.path: side for one, side in zip(grown, split.assign(grown, own), strict=True)}
    tests = [path for path, side in before.items() if side == "test"]
    return sum(after[path] == "train" for path in tests), len(tests)


if __name__ == "__main__":
    main()
