"""Colours, lines and markers that can be told apart with any kind of colour vision."""

from collections.abc import Iterator
from itertools import cycle

# Okabe and Ito 2008.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000"]
LINES = ["-", "--", "-.", ":"]
MARKERS = ["o", "s", "D", "^", "v", "P", "X", "*"]


def colours_and_lines() -> Iterator[tuple[str, str]]:
    """Each colour with the first line, then each with the second, and so on."""
    return ((colour, line) for line in cycle(LINES) for colour in COLOURS)


def colours_and_markers(colours: list[str]) -> Iterator[tuple[str, str]]:
    """Each colour with the first marker, then each with the second, and so on."""
    return ((colour, marker) for marker in cycle(MARKERS) for colour in colours)
