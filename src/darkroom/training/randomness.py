"""Random numbers that depend on the seed, the epoch and their purpose alone, so that an epoch can be run again by itself."""

import hashlib

import torch


def generator(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A generator for one purpose in one epoch."""
    return torch.Generator().manual_seed(_number(seed, epoch, purpose))


def seed_dropout(seed: int, epoch: int, step: int, shard: int) -> None:
    """Seed torch's global generator, from which dropout and stochastic depth draw, for one shard of one batch."""
    torch.manual_seed(_number(seed, epoch, f"dropout:{step}:{shard}"))


def _number(seed: int, epoch: int, purpose: str) -> int:
    digest = hashlib.sha256(f"{seed}:{epoch}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
