"""Many small pieces of work on every core."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from darkroom.system.errors import UserError
from darkroom.system.process import end_with_parent

START = "fork" if sys.platform == "linux" else "spawn"  # macOS's libraries do not survive a fork
FEW = 256  # items; for fewer, processes are not worth their start
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of all cores, and the period in which they may be used
CHUNK = 32  # items that a process takes at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """The number of cores that this process may use. The quota of a container counts (Linux, cgroup v2)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no quota
        quota, period = QUOTA.read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    return count


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], count: int | None = None) -> Iterator[Result]:
    """`map(work, items)` in `count` threads (None: one per core), in order. At most four items per thread are under way.

    Threads are enough where `work` releases Python's lock, as Pillow does while it decodes and torch while it computes.
    """
    count = count or cores()
    if count == 1:
        yield from map(work, items)
        return
    stream = iter(items)
    with ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(work, item) for item in islice(stream, 4 * count)]
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(pool.submit(work, item) for item in islice(stream, 1))


def on_every_core(
    work: Callable[[Item], Result], items: Sequence[Item], lost: Callable[[Item], Result] | None = None
) -> Iterator[Result]:
    """`map(work, items)` in order: in processes if there are many items, in threads if there are few.

    With small images most of the time is spent in Python code, which only one thread runs at a time.

    Args:
        work: Picklable: a function of a module, or a `partial` of one.
        items: What it is called with.
        lost: The result for an item that kills the process at work on it, as a damaged file can. If it is given, few items go to
            processes, too.

    Raises:
        UserError: An item kills its process, and `lost` is None.
    """
    if len(items) < FEW and lost is None:
        yield from in_threads(work, items)
        return
    done, chunk = 0, min(CHUNK, len(items) // (4 * cores()) + 1)
    while done < len(items):
        try:
            with _processes(cores()) as pool:
                for result in pool.map(work, items[done:], chunksize=chunk):
                    yield result
                    done += 1
        except BrokenProcessPool:  # which does not say by which item
            for item in items[done : done + chunk]:
                yield _alone(work, item, lost)
                done += 1


def _processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, get_context(START), initializer=end_with_parent, initargs=(os.getpid(),))


def _alone(work: Callable[[Item], Result], item: Item, lost: Callable[[Item], Result] | None) -> Result:
    """`work(item)` in a process of its own. The arguments are those of `on_every_core`."""
    try:
        with _processes(1) as pool:
            return pool.submit(work, item).result()
    except BrokenProcessPool:
        if lost is None:
            raise UserError(f"{item} kills the process that works on it: mend or remove it, or free memory") from None
        return lost(item)
