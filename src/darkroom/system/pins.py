"""The pinned packages that can change a result: requirements/*.txt."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from darkroom.system.errors import UserError

FOLDER = Path("requirements")


def read(name: str) -> dict[str, str]:
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
        for package, pinned in read(name).items():
            try:
                installed = version(package).split("+")[0]
            except PackageNotFoundError:
                installed = "not installed"
            if installed != pinned:
                raise UserError(
                    f"{package} is {installed}, but {FOLDER / name}.txt pins {pinned}: run `make setup`, "
                    "or change the pin, and DVC will know that the results are to be made anew"
                )
