"""Where torch computes, and how precisely."""

from contextlib import AbstractContextManager

import torch

from darkroom.system.environment import on_gpu
from darkroom.system.errors import UserError
from darkroom.system.params import Run


def choose(run: Run) -> torch.device:
    """The device that `run.device` asks for; `auto` takes a GPU where torch finds one.

    Raises:
        UserError: A GPU is asked for and there is none.
    """
    gpu = on_gpu(run)
    if run.device == "cuda" and not gpu:
        raise UserError(
            "run.device in params.yaml is cuda, but torch finds no GPU here: say auto or cpu, or install torch for your GPU"
        )
    return torch.device("cuda" if gpu else "cpu")


def precision(run: Run) -> AbstractContextManager[None]:
    """The context in which networks run: plain float32, or bfloat16 where torch's autocast deems it safe."""
    return torch.autocast(choose(run).type, torch.bfloat16, enabled=run.precision == "bfloat16")
