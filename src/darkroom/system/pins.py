"""The pinned packages that can change a result: requirements/*.txt."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from darkroom.system.errors import UserError

FOLDER = Path("requirements")


def read(name: str) -> dict[str, str]:
    """The pins of requirements/`name`.txt: package -> version.

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
            raise UserError(f"{path} has the line '{line}', which is no pin: write package==version")
        found[pin[1]] = pin[2]
    if not found:
        raise UserError(f"{path} pins nothing: get it back by `git checkout {path}`")
    return found


def check(names: Iterable[str]) -> None:
    """Check that the installed packages are those that the files `names` of requirements/ pin.

    dvc.lock records these files, so other versions must not run. What follows a plus sign (2.14.1+cpu) is a build of the same
    version and is not compared.

    Raises:
        UserError: One is missing or of another version.
    """
    for name in names:
        for package, pinned in read(name).items():
            try:
                installed = version(package).split("+")[0]
            except PackageNotFoundError:
                installed = "not installed"
            if installed != pinned:
                raise UserError(
                    f"{package} is {installed}, but {FOLDER / name}.txt pins {pinned}: run `make setup` and "
                    "`source .venv/bin/activate`, or change the pin; DVC then runs the stages again"
                )
