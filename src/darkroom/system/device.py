"""Where torch computes, how precisely, and with what."""

import platform
from contextlib import AbstractContextManager

import torch

from darkroom.system import machine, pins
from darkroom.system.errors import UserError
from darkroom.system.params import Run


def choose(run: Run) -> torch.device:
    """The device that `run.device` asks for. `auto` is a GPU if torch finds one, else the CPU.

    Raises:
        UserError: `run.device` is cuda and torch finds no GPU.
    """
    gpu = on_gpu(run)
    if run.device == "cuda" and not gpu:
        raise UserError(
            "run.device in params.yaml is cuda, but torch finds no GPU here: say auto or cpu, or install torch for your GPU"
        )
    return torch.device("cuda" if gpu else "cpu")


def precision(run: Run) -> AbstractContextManager[None]:
    """The context in which networks run: float32, or bfloat16 in the operations that torch's autocast considers safe."""
    return torch.autocast(choose(run).type, torch.bfloat16, enabled=run.precision == "bfloat16")


def on_gpu(run: Run) -> bool:
    """Whether this machine computes on a GPU."""
    return run.device != "cpu" and torch.cuda.is_available()


def made_by(run: Run) -> dict[str, str]:
    """Everything about the machine and the packages that decides the bytes of a model. Call it after `determinism.prepare`.

    In portable mode the CPU's name is not part of it: only the instructions that are used matter.
    """
    facts = {
        "device": torch.cuda.get_device_name() if on_gpu(run) else "cpu",
        "precision": run.precision,
        "mode": run.mode,
        "threads": str(run.threads),
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **pins.read("data"),
        **pins.read("models"),
    }
    if on_gpu(run):  # each kind of GPU, and each CUDA, rounds in its own way
        facts["cuda"] = str(torch.version.cuda)
    return facts if run.mode == "portable" else {**facts, "cpu": machine.cpu()}
