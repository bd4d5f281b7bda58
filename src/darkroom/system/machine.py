"""This machine: CPU, Python version, operating system."""

import platform
import re
from pathlib import Path


def here() -> dict[str, str]:
    """CPU, Python version and operating system."""
    system = " ".join([platform.system(), *platform.libc_ver()]).strip()
    return {"cpu": cpu(), "python": platform.python_version(), "system": system}


def cpu() -> str:
    """The name of the CPU."""
    try:
        found = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
