"""Where the images and their lists lie."""

from pathlib import Path

RAW = Path("data/raw")  # the user's images, tracked by DVC
TRACKED = Path("data/raw.dvc")  # what DVC tracks of them
GROUPS = Path("data/groups.csv")  # the user's table of groups
MANIFEST = Path("data/manifest.csv")  # what the stage split made of each file
SIDES = ("train", "val", "test")
SPLIT = Path("data/split")  # a folder per side
