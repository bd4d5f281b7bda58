"""Many small pieces of work on every core."""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from darkroom.system.process import end_with_parent

FEW = 256  # items; for fewer, processes are not worth their start
CHUNK = 32  # items that a process takes at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(work, items)` in threads, in order. At most four items per core are under way at a time.

    Threads are enough where `work` releases Python's lock, as Pillow does while it decodes and resizes.
    """
    stream = iter(items)
    with ThreadPoolExecutor(cores()) as pool:
        waiting = [pool.submit(work, item) for item in islice(stream, 4 * cores())]
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(pool.submit(work, item) for item in islice(stream, 1))


def on_every_core(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map(work, items)` in order: in processes if there are many items, in threads if there are few.

    With small images most of the time is spent in Python code, which only one thread runs at a time. `work` must be
    picklable: a function of a module, or a `partial` of one.
    """
    if len(items) < FEW:
        yield from in_threads(work, items)
        return
    context = get_context(start_method())
    with ProcessPoolExecutor(cores(), context, initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
        yield from pool.map(work, items, chunksize=CHUNK)


def start_method() -> str:
    """How to start processes: "fork", or the slower "spawn" where a fork can hang: beside threads, and with macOS's libraries."""
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"
