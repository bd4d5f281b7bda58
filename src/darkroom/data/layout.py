"""Where the images and their lists lie."""

from pathlib import Path

RAW = Path("data/raw")  # the user's images, tracked by DVC
TRACKED = Path("data/raw.dvc")  # DVC's record of them
GROUPS = Path("data/groups.csv")  # the user's table of groups
PINNED = Path("data/sides.csv")  # the sides of images of small classes, which never leave them
MANIFEST = Path("data/manifest.csv")  # the side of each file, or why it has none
SIDES = ("train", "val", "test")  # from the least protected to the most
SPLIT = Path("data/split")  # a folder per side
SYSTEM_FILES = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})  # and all that begin with a dot


def is_system_file(name: str) -> bool:
    """Whether a file or folder of this name belongs to the operating system or is hidden."""
    return name.startswith(".") or name in SYSTEM_FILES


def in_side(path: str, label: str) -> str:
    """The path of an image in its side of the split, `class/.../name`.

    Args:
        path: Its path in data/raw. It starts with the class, with an archive, or with a side in mode `folders`.
        label: Its class.
    """
    first, rest = path.split("/", 1)
    if first == label:
        return path
    inside = path if first.endswith(".tar") else rest
    return inside if inside.startswith(f"{label}/") else f"{label}/{inside}"
