"""How long a training will take on this machine, said after its first steps. No result depends on it."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from tqdm import tqdm

SKIPPED, MEASURED = 2, 6  # steps: the first ones wait for memory
SCORED = 0.3  # the cost of an image of val, without gradients, as a share of a training image's
AIM = 10  # minutes
SHORT = 30  # seconds; of such a training nothing is said

Item = TypeVar("Item")


def announced(steps: Iterable[Item], count: int, scored: float, epochs: int) -> Iterator[Item]:
    """Pass on the steps of an epoch. After the first few, print how long the training will take, if it is not short.

    Args:
        steps: The steps. What the caller does with one, before it asks for the next, is measured.
        count: How many an epoch has.
        scored: The number of val images, divided by the batch size.
        epochs: How many are left, with this one.
    """
    started = 0.0
    for number, step in enumerate(steps):
        if number == SKIPPED:
            started = _now()
        if number == SKIPPED + MEASURED:
            seconds = (_now() - started) / MEASURED * (count + SCORED * scored)
            if seconds * epochs > SHORT:
                tqdm.write(expected(seconds, epochs))
        yield step


def expected(seconds: float, epochs: int) -> str:
    """One line: what so many epochs of so many `seconds` take, and how many fit into `AIM` if these do not."""
    total, fitting = seconds * epochs / 60, int(AIM * 60 / seconds)
    text = f"an epoch takes about {seconds:.0f} s here, and {epochs} epochs about {total:.1f} minutes"
    return f"{text}; {fitting} epochs would fit into {AIM}" if total > 1.2 * AIM and fitting else text


def _now() -> float:
    """The time in seconds at which all that was started on a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
