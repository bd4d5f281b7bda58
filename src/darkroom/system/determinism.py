"""Settings with which the same inputs give the same bytes on every machine."""

import ctypes
import os
import sys

from darkroom.system import machine, params
from darkroom.system.params import Run

# Each of these libraries chooses its kernels by the CPU, and different kernels round differently. Every x86-64 server and
# laptop of the last decade has AVX2. The variables are read once, when torch is first imported.
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    # NumPy's names for all that it has beyond AVX2. They change between its versions, and it only warns of unknown ones.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}

SPINS = "1000"  # of an OpenMP thread before it sleeps: benchmarks/results/busy.md


def settle() -> None:
    """Prepare this process for a stage that computes with torch, and print what decides the bytes of its results."""
    run = params.load("run", Run)
    prepare(run)
    from darkroom.system.device import made_by  # imports torch

    facts = {**made_by(run), **machine.here()}
    print(", ".join(f"{key} {value}" for key, value in facts.items()), flush=True)


def prepare(run: Run) -> None:
    """Set instruction sets, thread counts and torch's algorithms. Call it before anything imports torch.

    Raises:
        RuntimeError: torch or NumPy is imported already, which is too late for the settings.
    """
    if late := {"torch", "numpy"} & sys.modules.keys():
        raise RuntimeError(f"determinism.prepare() must come before the import of {', '.join(sorted(late))}")
    if run.mode == "portable":
        os.environ.update(PORTABLE)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(run.threads)
    # Otherwise there would be fewer threads on fewer cores, and they would round differently.
    os.environ.update(OMP_DYNAMIC="FALSE", MKL_DYNAMIC="FALSE")
    os.environ.pop("OMP_THREAD_LIMIT", None)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # A thread that waits for the others spins. On a busy core it spins in vain: training took two to three times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    _keep_freed_memory()

    import torch

    torch.set_num_threads(run.threads)
    # As use_deterministic_algorithms(True), which also imports torch's compiler: three seconds of each start.
    torch.set_deterministic_debug_mode("error")
    # By default it also fills every new tensor with NaN, to show reads of uninitialised memory: a fifth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32; on by default, for convolutions
    torch.set_flush_denormal(True)


def _keep_freed_memory() -> None:
    """Make glibc keep large freed blocks for the next batch instead of returning them to the kernel.

    A training step frees and allocates the same hundreds of megabytes again, and the kernel zeroes returned memory page by
    page. Keeping the blocks makes training about 1.5 times as fast on two cores, with the same results. Without glibc nothing
    happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # the M_* constants of <malloc.h>
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(arena_max, 1)
