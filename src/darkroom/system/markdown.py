"""Markdown: names made safe for it, and Markdown on a terminal."""

import re
import sys

from rich.console import Console
from rich.markdown import Markdown


def code(text: str) -> str:
    """`text` as inline code. Files and experiments may have any name, with backticks and line breaks in it."""
    shown = text if text.isprintable() else repr(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}{shown}{fence}" if len(fence) == 1 else f"{fence} {shown} {fence}"


def abbreviated(name: str) -> str:
    """The first ten digits of the full name of a commit; the name of anything else as it is."""
    return name[:10] if re.fullmatch("[0-9a-f]{11,64}", name) else name


def cell(text: str) -> str:
    """`text` as inline code in a table, where a bar would end the cell."""
    return code(text).replace("|", "\\|")


def show(text: str) -> None:
    """Print Markdown: with drawn tables on a terminal, otherwise the plain text."""
    if sys.stdout.isatty():
        Console().print(Markdown(re.sub("</?(details|summary)>", "", text)))
    else:
        print(text, end="")
