"""How long a training will take on this machine, said after its first steps. No result depends on it."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

SKIPPED, MEASURED = 2, 6  # steps: the first ones wait for memory
SCORED = 0.3  # the cost of an image of val, without gradients, as a share of a training image's
AIM = 600  # seconds

Item = TypeVar("Item")


def announced(steps: Iterable[Item], count: int, scored: float, epochs: int) -> Iterator[Item]:
    """Pass on the steps of an epoch. After the first few, say how long the training will take. A shorter epoch says nothing.

    Args:
        steps: The steps, each as long as it takes until the next one is asked for.
        count: How many an epoch has.
        scored: The images of val, in steps: how many batches they would be.
        epochs: How many are left, with this one.
    """
    started = time.perf_counter()
    for number, step in enumerate(steps):
        if number == SKIPPED:
            started = time.perf_counter()
        if number == SKIPPED + MEASURED:
            tqdm.write(expected((time.perf_counter() - started) / MEASURED * (count + SCORED * scored), epochs))
        yield step


def expected(seconds: float, epochs: int) -> str:
    """One line: what so many epochs of so many `seconds` take."""
    total = seconds * epochs
    text = f"an epoch takes about {_duration(seconds)} here, and {epochs} epochs {_duration(total)}"
    if total > 1.2 * AIM:
        text += f"; {max(1, int(AIM / seconds))} epochs would fit into {_duration(AIM)}"
    return text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
