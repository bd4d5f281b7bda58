"""Labelled images that are no part of the project: a folder with a folder per class, or a CSV table."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from darkroom.data import archives, groups, samples
from darkroom.data.images import SUFFIXES
from darkroom.data.layout import is_system_file
from darkroom.inference.predict import files_of
from darkroom.system import files
from darkroom.system.errors import UserError

PATH, LABEL, GROUP = "path", "label", "group"  # columns of a table
NAMED = 5  # classes and files that a message names


@dataclass(frozen=True)
class Labelled:
    """N files and what their owner says about them.

    Attributes:
        paths: As this process can open them.
        labels: N class names.
        groups: N names of groups; all are "" if there are no groups.
        columns: Further columns of the table -> N values.
    """

    paths: list[str]
    labels: list[str]
    groups: list[str]
    columns: dict[str, list[str]]

    def only(self, kept: Sequence[int]) -> "Labelled":
        """The files with these indices."""

        def pick(values: list[str]) -> list[str]:
            return [values[index] for index in kept]

        columns = {name: pick(values) for name, values in self.columns.items()}
        return Labelled(pick(self.paths), pick(self.labels), pick(self.groups), columns)


def read(source: Path, classes: Sequence[str]) -> Labelled:
    """The labelled files of a folder or of a table.

    Args:
        source: A folder with a folder per class, or a CSV file.
        classes: The classes that the model knows.

    Raises:
        UserError: There is nothing at `source`, it has no image, a label is missing or is none of `classes`, or the table is
            damaged.
    """
    if source.is_dir():
        found = _folder(source)
    elif source.is_file():
        found = _table(source)
    else:
        raise UserError(f"{source} does not exist: name a folder with a folder per class, or a CSV with path and label")
    if not found.paths:
        raise UserError(f"there is no image in {source}: it must have a folder of images per class, or a row per image")
    _refuse_unknown(source, found.labels, classes)
    return found


def _folder(source: Path) -> Labelled:
    """The images in the class folders and archives, and the groups of a side of the split, which has a table of them."""
    inside = sorted(path for path in source.iterdir() if not is_system_file(path.name))
    if loose := [path for path in inside if path.is_file() and path.suffix.lower() in SUFFIXES]:
        raise UserError(
            f"{loose[0]} lies in no class folder{_and_more(len(loose))}: move it to {source}/CLASS/, or list the images in a CSV"
        )
    usable = [str(path) for path in inside if path.is_dir() or path.suffix == archives.SUFFIX]
    paths = list(files_of(usable))
    labels = [samples.label_of(source, Path(path).relative_to(source).as_posix(), 0) for path in paths]
    table = source / groups.TABLE
    group_of = {row["path"]: row["group"] for row in files.read_csv(table)} if table.exists() else {}

    def in_side(path: str) -> str:
        packed = archives.archive_of(path)
        return packed[1] if packed else Path(path).relative_to(source).as_posix()

    return Labelled(paths, labels, [group_of.get(in_side(path), "") for path in paths], {})


def _table(source: Path) -> Labelled:
    """The rows of a CSV. A relative path is relative to the table's folder."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header, rows = list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{source} cannot be read as a CSV in UTF-8 ({error}): mend it") from None
    if missing := {PATH, LABEL} - set(header):
        raise UserError(
            f"{source} has no column {' and no column '.join(sorted(missing))}: it needs the columns path,label, separated by "
            "commas, and may have group and others"
        )
    if len(set(header)) < len(header):
        raise UserError(f"{source} has a column twice: keep one of the two")
    grouped = any(row.get(GROUP) for row in rows)
    for line, row in enumerate(rows, start=2):
        for column in [PATH, LABEL, *([GROUP] if grouped else [])]:
            if not row[column]:
                raise UserError(f"{source}: row {line} has no {column}: add it, or remove the row")
        if None in row or None in row.values():
            raise UserError(f"{source}: row {line} has more or fewer cells than the header: mend it")
    paths = [str(source.parent / row[PATH]) for row in rows]
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise UserError(
            f"{source} lists {twice[0]} twice{_and_more(len(twice))}: keep one row, or the image counts twice"
        )
    others = [column for column in header if column not in (PATH, LABEL, GROUP)]
    columns = {column: [row[column] for row in rows] for column in others}
    return Labelled(paths, [row[LABEL] for row in rows], [row.get(GROUP) or "" for row in rows], columns)


def _refuse_unknown(source: Path, labels: Sequence[str], classes: Sequence[str]) -> None:
    unknown = Counter(label for label in labels if label not in set(classes))
    if unknown:
        named = ", ".join(f"{label!r} ({count} images)" for label, count in unknown.most_common(NAMED))
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        known = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        raise UserError(
            f"{source} has classes that the model does not know: {named}{more}; it knows {known}: rename or leave them out"
        )


def _and_more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""
