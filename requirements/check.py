"""Say what this machine lacks for Darkroom, before anything is installed: `python3 requirements/check.py DISK`.

DISK is the space in GB that the packages need. What would make the installation fail is printed, and the exit code is 1. What
makes trainings slower or their bytes others is printed as a note. `make` runs this file with any Python from 3.7 on, so it
imports the standard library alone.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)
MEMORY = 3  # GB: a training at 160 pixels, and the rest of the system


def obstacles(version: tuple[int, ...], space: float, needed: float) -> Iterator[str]:
    """What would make the installation fail, a line each.

    Args:
        version: Of Python.
        space: The free disk in GB.
        needed: What the packages take of it, in GB.
    """
    if version < OLDEST:
        found = ".".join(map(str, version[:2]))
        yield f"this is Python {found}: install Python 3.11 or newer, or say make PYTHON=/path/to/python3"
    if shutil.which("git") is None:
        yield "git is missing: install it (apt install git, brew install git)"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        yield "Python's venv module is missing: install it (apt install python3-venv)"
    if space < needed:
        yield (
            f"the packages need {needed:.0f} GB of disk, and {space:.1f} GB are free in {Path.cwd()}: free some, or install "
            "torch's CPU build (docs/get-started.md)"
        )


def notes(system: str, processor: str, flags: list[str], memory: float | None) -> Iterator[str]:
    """What a user should know before the first run, a line each.

    Args:
        system: Such as Linux.
        processor: Its architecture, such as x86_64.
        flags: Its instruction sets. Empty where they are not known.
        memory: The free memory in GB. None where it is not known.
    """
    if (system, processor) != ("Linux", "x86_64"):
        yield f"the committed bytes are those of Linux on x86-64; results of {system} on {processor} have bytes of their own"
    elif "avx2" not in flags:
        yield "this processor has no AVX2: trainings are slower, and their results have bytes of their own"
    if memory is not None and memory < MEMORY:
        yield f"{memory:.1f} GB of memory are free, and a training with all that runs beside it may need {MEMORY}: close programs"


def _words(path: str, name: str) -> list[str]:
    """What stands behind `name:` in a file of /proc, in the first line that begins with it."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return next((line.partition(":")[2].split() for line in lines if line.startswith(name)), [])


def main() -> None:
    """Print what was found."""
    available = _words("/proc/meminfo", "MemAvailable")
    memory = int(available[0]) / 1e6 if available else None
    for line in notes(platform.system(), platform.machine(), _words("/proc/cpuinfo", "flags"), memory):
        print(f"make: note: {line}")
    found = list(obstacles(sys.version_info[:2], shutil.disk_usage(".").free / 1e9, float(sys.argv[1])))
    for line in found:
        print(f"make: {line}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
