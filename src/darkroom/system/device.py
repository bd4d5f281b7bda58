"""Where torch computes, how precisely, and with what."""

import platform
from contextlib import AbstractContextManager

import numpy as np
import torch

from darkroom.system import machine, pins
from darkroom.system.errors import UserError
from darkroom.system.params import Run


def choose(run: Run) -> torch.device:
    """The device that `run.device` names.

    Raises:
        UserError: `run.device` is cuda and torch finds no GPU.
    """
    if run.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "run.device in params.yaml is cuda, but torch finds no GPU here: say cpu, or install torch for your GPU"
        )
    return torch.device(run.device)


def precision(run: Run) -> AbstractContextManager[None]:
    """The context in which networks run: float32, or bfloat16 in the operations that torch's autocast considers safe."""
    return torch.autocast(choose(run).type, torch.bfloat16, enabled=run.precision == "bfloat16")


def resident(pixels: np.ndarray, where: torch.device) -> torch.Tensor:
    """The pixels of a training: on the GPU if they take at most half of its free memory, else where they are."""
    held = torch.from_numpy(pixels)
    if where.type == "cuda" and pixels.nbytes <= torch.cuda.mem_get_info()[0] // 2:
        return held.to(where)
    return held


def chosen(pixels: torch.Tensor, indices: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """The images with these indices, on the device to train on. The program does not wait for a GPU.

    Args:
        pixels: What `resident` gave.
        indices: int64, on the CPU.
        there: The same, on the device to train on.
    """
    if pixels.device == there.device:
        return pixels[there]
    return pixels[indices].pin_memory().to(there.device, non_blocking=True)


def kind(run: Run) -> dict[str, str]:
    """All about this machine and the section `run` that decides the bytes of a result. Call it after `determinism.prepare`.

    In portable mode the CPU's name is not part of it: only the instructions that are used matter. DVC knows `run`, but not the
    machine, so that dvc.lock could hold results of two kinds of machines (`checkpoint.check_provenance`).
    """
    facts = {
        "device": "cpu",
        "precision": run.precision,
        "mode": run.mode,
        "threads": str(run.threads),
        "shards": str(run.shards),
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if choose(run).type == "cuda":  # each kind of GPU, and each CUDA, rounds in its own way
        facts |= {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    return facts if run.mode == "portable" else {**facts, "cpu": machine.cpu()}


def made_by(run: Run) -> dict[str, str]:
    """The `kind` of this machine, and the versions of the packages that decide the bytes of a model."""
    return {**kind(run), **pins.read("data"), **pins.read("models")}
