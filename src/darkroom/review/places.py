"""Where in the path of an image its class is, and what lies under a path of data/raw now."""

from pathlib import Path, PurePosixPath

from darkroom.data.layout import RAW
from darkroom.system import files, params
from darkroom.system.errors import UserError


def depth() -> int:
    """The number of folders above the classes: 1 in a data set that is split already (`split.mode: folders`), else 0."""
    return int(mode() == "folders")


def mode() -> str:
    """`split.mode` of params.yaml.

    Raises:
        UserError: params.yaml has none.
    """
    found = params.tree_of_params().get("split")
    if not isinstance(found, dict) or "mode" not in found:
        raise UserError(f"{params.PARAMS} has no split.mode: `git show HEAD:{params.PARAMS}` has one to copy")
    return str(found["mode"])


def label_of(path: str, above: int) -> str:
    """The class of an image by its path in data/raw; "" if it lies in no class folder."""
    parts = path.split("/")
    return parts[above] if len(parts) > above + 1 else ""


def relabelled(path: str, label: str, above: int) -> str:
    """The same path in the folder of another class."""
    parts = path.split("/")
    return "/".join([*parts[:above], label, *parts[above + 1 :]])


def classes(above: int) -> set[str]:
    """The class folders of data/raw."""
    folders = [RAW]
    for _ in range(above + 1):
        folders = [inner for folder in folders for inner in folder.iterdir() if is_visible_folder(inner)]
    return {folder.name for folder in folders}


def is_visible_folder(path: Path) -> bool:
    """Whether it is a folder whose name does not begin with a dot."""
    return path.is_dir() and not path.name.startswith(".")


def is_inside(path: str) -> bool:
    """Whether a path from a table leads to a place in data/raw. A table may come from a stranger."""
    if "\0" in path or PurePosixPath(path).is_absolute() or {"", ".", ".."} & set(path.split("/")):
        return False
    return (RAW / path).parent.resolve().is_relative_to(RAW.resolve())


def content_of(path: str) -> bytes | None:
    """The bytes of a file of data/raw now; None if there is none."""
    try:
        return (RAW / path).read_bytes() if is_inside(path) else None
    except OSError:
        return None


def digest_of(path: str) -> str:
    """The SHA-256 of a file of data/raw now; "" if there is none."""
    content = content_of(path)
    return "" if content is None else files.sha256(content)
