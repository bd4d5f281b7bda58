"""What a result is made with: the packages that can change it, and the machine."""

import platform
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from darkroom.system.errors import UserError
from darkroom.system.files import sha256, write_json
from darkroom.system.params import Run

FOLDER = Path("requirements")


def pins(name: str) -> dict[str, str]:
    """Package -> version, as requirements/`name`.txt pins them.

    Raises:
        UserError: There is no such file, it pins nothing, or a line of it is anything but `package==version`.
    """
    path = FOLDER / f"{name}.txt"
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path} is missing or damaged: get it back by `git checkout {path}`") from None
    found = {}
    for line in filter(None, lines):
        pin = re.fullmatch(r"([\w.-]+)==([\w.]+)", line)
        if pin is None:
            raise UserError(f"{path} says '{line}': what can change a result is pinned as package==version")
        found[pin[1]] = pin[2]
    if not found:
        raise UserError(f"{path} pins nothing: get it back by `git checkout {path}`")
    return found


def check(names: Iterable[str]) -> None:
    """See to it that the installed packages are those of requirements/`names`: dvc.lock vouches for these files.

    What follows a plus sign (2.14.1+cpu) tells builds of one version apart, and is not compared.

    Raises:
        UserError: One is missing or of another version.
    """
    for name in names:
        for package, pinned in pins(name).items():
            try:
                installed = version(package).split("+")[0]
            except PackageNotFoundError:
                installed = "not installed"
            if installed != pinned:
                raise UserError(
                    f"{package} is {installed}, but {FOLDER / name}.txt pins {pinned}: run `make setup`, "
                    "or change the pin, and DVC will know that the results are to be made anew"
                )


def made_by(run: Run) -> dict[str, str]:
    """All of the environment that decides a training's bytes. Call it after `determinism.prepare`.

    In portable mode the CPU is not among it: it counts no further than the instructions that are used.
    """
    import torch

    facts = {
        "device": torch.cuda.get_device_name() if on_gpu(run) else "cpu",
        "precision": run.precision,
        "mode": run.mode,
        "threads": str(run.threads),
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **pins("data"),
        **pins("models"),
    }
    if on_gpu(run):  # each kind of GPU, and each CUDA, rounds in its own way
        facts["cuda"] = str(torch.version.cuda)
    return facts if run.mode == "portable" else {**facts, "cpu": cpu()}


def on_gpu(run: Run) -> bool:
    """Whether `run.device` leads to a GPU here."""
    import torch

    return run.device != "cpu" and torch.cuda.is_available()


def record(path: Path, facts: dict[str, str]) -> None:
    """Note beside `path`, as JSON, on which machine and by what it was first made.

    Where the note is already about these very bytes it stays: a rebuild that gives the same result changes nothing.
    """
    note, digest = path.with_suffix(".json"), sha256(path.read_bytes())
    if f'"sha256": "{digest}"' not in (note.read_text("utf-8", "replace") if note.exists() else ""):
        write_json(note, {"sha256": digest, "made_by": {**facts, **here()}})


def here() -> dict[str, str]:
    """This machine, for people."""
    system = " ".join([platform.system(), *platform.libc_ver()]).strip()
    return {"cpu": cpu(), "python": platform.python_version(), "system": system}


def cpu() -> str:
    """The CPU's own name."""
    try:
        found = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
