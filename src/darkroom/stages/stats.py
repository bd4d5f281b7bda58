"""Stage stats: sizes and classes of the training images, and the mean and std that normalise them."""

import math
from collections import Counter
from functools import partial
from itertools import groupby
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from darkroom.data import advice
from darkroom.data.images import file_in, list_images, open_rgb, resized, shrunk
from darkroom.data.layout import SPLIT
from darkroom.pictures.stats import TILE, contact_sheet
from darkroom.system import files, params
from darkroom.system.errors import UserError
from darkroom.system.parallel import on_every_core

TRAIN = SPLIT / "train"
CHANNELS = ("red", "green", "blue")


class Params(params.Section):
    """Section `stats` of params.yaml."""

    contact_sheet: Annotated[int, Field(ge=1, le=400)]


class Summary(NamedTuple):
    """Sums over the pixels of one image. They are integers, so that their totals are exact in any order."""

    total: np.ndarray  # int64 (3,), per channel, 0 to 255 per pixel
    squares: np.ndarray  # int64 (3,), sums of squares
    size: tuple[int, int]  # width and height of the image in the file


def main() -> None:
    """Read the training images; write their statistics, their sizes and a contact sheet per class."""
    choices = params.load("stats", Params)
    images = params.load("images", params.Images)
    paths = list_images(TRAIN)
    if not paths:
        raise UserError(f"{TRAIN} holds no images: run `dvc repro split` first")
    mean, std, sizes = measure(paths, images.resolution)
    with files.new_folder("plots/contact_sheets") as folder:
        for label, of_class in groupby(paths, lambda path: path.split("/", 1)[0]):
            members = list(of_class)
            step = max(1, len(members) // choices.contact_sheet)  # evenly over the class, not its first few
            shown = [
                shrunk(open_rgb(file_in(TRAIN, path)), TILE - 2) for path in members[::step][: choices.contact_sheet]
            ]
            contact_sheet(label, shown, len(members), folder / f"{label}.png")
    counts = Counter(path.split("/", 1)[0] for path in paths)
    for line in advice.lines(counts, sizes, params.tree_of_params()):
        print(f"advice: {line}")
    rows = [(width, height, number) for (width, height), number in sorted(sizes.items())]
    files.write_csv("plots/image_sizes.csv", ("width", "height", "count"), rows)
    files.write_json(
        "metrics/stats.json",
        {
            "resolution": images.resolution,
            "mean": dict(zip(CHANNELS, mean, strict=True)),
            "std": dict(zip(CHANNELS, std, strict=True)),
            "width": spread([width for width, _ in sizes.elements()]),
            "height": spread([height for _, height in sizes.elements()]),
        },
    )


def measure(paths: list[str], resolution: int) -> tuple[list[float], list[float], Counter[tuple[int, int]]]:
    """Mean and standard deviation of each channel over all pixels (RGB scaled to 0 to 1), and the images' sizes.

    Each core holds one image at a time. The sums are integers, so that no digit is lost, however many images there are.
    """
    total, squares, sizes = np.zeros(3, np.int64), np.zeros(3, np.int64), Counter[tuple[int, int]]()
    for summary in on_every_core(partial(summarise, resolution), paths):
        total += summary.total
        squares += summary.squares
        sizes[summary.size] += 1
    number = len(paths) * resolution**2
    mean = [int(value) / number / 255 for value in total]
    # In Python's unbounded integers: the difference of two large numbers would lose digits in float64.
    variance = [int(s) * number - int(t) ** 2 for s, t in zip(squares, total, strict=True)]
    return mean, [math.sqrt(value) / number / 255 for value in variance], sizes


def summarise(resolution: int, path: str) -> Summary:
    """The summary of one training image."""
    image = open_rgb(file_in(TRAIN, path))
    pixels = resized(image, resolution).reshape(-1, 3).astype(np.int64)
    return Summary(pixels.sum(0), (pixels**2).sum(0), image.size)


def spread(values: list[int]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}
