"""Where the images and their lists lie."""

from pathlib import Path

RAW = Path("data/raw")  # the user's images, tracked by DVC
TRACKED = Path("data/raw.dvc")  # DVC's record of them
GROUPS = Path("data/groups.csv")  # the user's table of groups
PINNED = Path("data/sides.csv")  # the sides of images of small classes, which never leave them
MANIFEST = Path("data/manifest.csv")  # the side of each file, or why it has none
SIDES = ("train", "val", "test")  # from the least protected to the most
SPLIT = Path("data/split")  # a folder per side
