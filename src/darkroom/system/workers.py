"""The workers that share a training: who they are, and how they put their parts together.

They are the processes of torch.distributed's default group. A process that has joined none is the only worker. Sums are added
along a fixed binary tree, and never by the library, whose order depends on the number of workers: this number leaves no trace.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist

from darkroom.system.errors import LostWorkerError


def count() -> int:
    """How many workers there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this worker is the one that writes the results."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(parts: int) -> range:
    """The parts of `range(parts)` that are this worker's: equally many for each; the last workers may have fewer."""
    each = -(-parts // count())
    at = dist.get_rank() * each if dist.is_initialized() else 0
    return range(min(at, parts), min(at + each, parts))


def tree_sum(leaves: Iterable[list[Tensor]]) -> list[Tensor]:
    """Add lists of tensors in pairs, then the sums in pairs, and so on; in place.

    Args:
        leaves: A power of two of lists, whose tensors agree in shape.
    """
    waiting: list[tuple[int, list[Tensor]]] = []  # (how many leaves are in the sum, the sum)
    for leaf in leaves:
        size, total = 1, leaf
        while waiting and waiting[-1][0] == size:
            total = [left.add_(right) for left, right in zip(waiting.pop()[1], total, strict=True)]
            size *= 2
        waiting.append((size, total))
    [(_, total)] = waiting
    return total


def sum_of_all(tensors: list[Tensor]) -> list[Tensor]:
    """The sum of the `tensors` of all workers, along the tree above those of `tree_sum`: float32, of the same shapes.

    Each worker gets one piece of all vectors, adds it, and hands the sum to all: twice the bytes of a vector are sent, whatever
    the number of workers.
    """
    if count() == 1:
        return tensors
    vector = torch.cat([tensor.flatten() for tensor in tensors])
    length = len(vector)
    vector = torch.nn.functional.pad(vector, (0, -length % count()))
    pieces = torch.empty_like(vector)
    with _all_present():
        dist.all_to_all_single(pieces, vector)
    [piece] = tree_sum([piece] for piece in pieces.view(count(), -1))
    with _all_present():
        dist.all_gather_single(vector, piece)
    parts = vector[:length].split([tensor.numel() for tensor in tensors])
    return [tensor.copy_(part.view(tensor.shape)) for tensor, part in zip(tensors, parts, strict=True)]


def joined(parts: Tensor, total: int) -> Tensor:
    """The parts of all workers, in order: (total, ...).

    Args:
        parts: (parts of this worker, ...): its `share` of `total`, of which the last workers may have fewer or one to spare.
        total: How many there are in all.
    """
    if count() == 1:
        return parts
    mine = torch.zeros(-(-total // count()), *parts.shape[1:], dtype=parts.dtype, device=parts.device)
    mine[: len(parts)] = parts
    every = mine.new_empty(count() * len(mine), *parts.shape[1:])
    with _all_present():
        dist.all_gather_single(every, mine)
    return every[:total]


def from_first(content: bytes) -> bytes:
    """What the first worker calls this with, in all of them."""
    if count() == 1:
        return content
    where = "cuda" if dist.get_backend() == "nccl" else "cpu"
    size = torch.tensor([len(content)], device=where)
    with _all_present():
        dist.broadcast(size, 0)
        data = torch.zeros(int(size), dtype=torch.uint8, device=where)
        if is_first() and content:
            data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        if len(data):
            dist.broadcast(data, 0)
    return data.cpu().numpy().tobytes()


@contextmanager
def _all_present() -> Iterator[None]:
    """Turn the error that a missing worker causes into a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise LostWorkerError(
            f"a worker of this training is gone ({' '.join(str(error).split())[-120:]}): see its own message, free memory if the "
            "system killed it, and run `dvc repro`, which goes on after the last finished epoch"
        ) from None
