"""Reading and writing files. A file is written whole or not at all, with the same bytes for the same content."""

import csv
import hashlib
import io
import json
import math
import numbers
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.system.errors import UserError

DIGITS = 6  # significant; enough for every metric, and too few to show a difference in the last bits


def sha256(data: bytes) -> str:
    """SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to a temporary file and rename it to `path`, so that no reader ever sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        error.filename = str(path)  # the error of a full disk names no file
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, tree: Mapping[str, Any]) -> None:
    """Write `tree` as JSON: keys sorted, floats to 6 significant digits, a newline at the end.

    Raises:
        ValueError: A number is NaN or infinite, which JSON cannot hold.
    """
    text = json.dumps(_rounded(tree), sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def _rounded(value: Any) -> Any:
    """`value` with NumPy's scalars as Python's numbers, and every float rounded to 6 significant digits."""
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else float(value)


def read_json(path: str | Path) -> Any:
    """The content of a JSON file that a stage wrote.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path} is missing or damaged: run `dvc repro`") from None


def write_csv(path: str | Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table as CSV: `\\n` after each line, floats to 6 significant digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_rounded(list(row)) for row in rows])
    write_bytes(path, buffer.getvalue().encode("utf-8", "surrogateescape"))


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file, each as column -> text.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        # Excel puts a mark before the first column's name, which utf-8-sig leaves out.
        with Path(path).open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`, or get it back by `git checkout {path}`") from None
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file ({error}): mend it, or get it back by `git checkout {path}`") from None


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` when the block succeeds, and is removed when it fails."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
