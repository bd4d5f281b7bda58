"""Many small pieces of work on every core."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from typing import TypeVar

from darkroom.data.images import in_threads
from darkroom.system.process import end_with_parent

FEW = 256  # items; for fewer, processes are not worth their start
CHUNK = 32  # items that a process takes at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_every_core(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map(work, items)` in order: in processes where there are many items, in threads where there are few.

    On small images the time goes into Python itself, which threads share. `work` must be picklable: a function of a module,
    or a `partial` of one. Where the system cannot fork, threads do it all.
    """
    if len(items) < FEW or "fork" not in get_all_start_methods():
        yield from in_threads(work, items)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ProcessPoolExecutor(cores, get_context("fork"), initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
        yield from pool.map(work, items, chunksize=CHUNK)
