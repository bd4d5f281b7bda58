"""Describe the first difference between two versions of an output."""

import csv
import io
import json
import pickle
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from darkroom.system.trees import leaves

MISSING = "nothing"


def first_difference(name: str, old: bytes, new: bytes) -> str:
    """Describe the first difference between two contents of a file.

    The position is a key in JSON, row and column in CSV, a tensor in a checkpoint, and a byte in any other file.

    Args:
        name: The file's name. Its suffix decides how the contents are read.
        old, new: The contents. They must differ.
    """
    describe = {".json": _in_json, ".csv": _in_csv, ".pth": _in_checkpoint}.get(name[name.rfind(".") :], _in_bytes)
    try:
        return describe(old, new) or _in_bytes(old, new)
    except (
        ValueError,
        RuntimeError,
        EOFError,
        KeyError,
        pickle.UnpicklingError,
    ):  # the content does not fit the suffix
        return _in_bytes(old, new)


def _in_bytes(old: bytes, new: bytes) -> str:
    position = next(
        (index for index, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    return f"byte {position:,} of {len(old):,} ({len(new):,} now)"


def _in_json(old: bytes, new: bytes) -> str:
    before, after = dict(leaves(json.loads(old))), dict(leaves(json.loads(new)))
    return _first_of(before, after)


def _in_csv(old: bytes, new: bytes) -> str:
    tables = [list(csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape")))) for data in (old, new)]
    header = tables[0][0] if tables[0] else []
    for row, (before, after) in enumerate(zip_longest(*tables, fillvalue=[])):
        for column, (a, b) in enumerate(zip_longest(before, after, fillvalue=MISSING)):
            if a != b:
                return f"row {row}, {header[column] if column < len(header) else f'column {column + 1}'}: {a} -> {b}"
    return ""


def _in_checkpoint(old: bytes, new: bytes) -> str:
    import torch

    before, after = (torch.load(io.BytesIO(data), map_location="cpu", weights_only=True) for data in (old, new))
    others = [{key: value for key, value in content.items() if key != "state_dict"} for content in (before, after)]
    if difference := _first_of(dict(leaves(others[0])), dict(leaves(others[1]))):
        return difference
    for name, tensor in before["state_dict"].items():
        other = after["state_dict"].get(name)
        if other is None or other.shape != tensor.shape:
            return f"{name}: {tuple(tensor.shape)} -> {MISSING if other is None else tuple(other.shape)}"
        if not torch.equal(tensor, other):
            distance = (tensor.double() - other.double()).abs()
            differing, largest = int((distance > 0).sum()), float(distance.max())
            return f"{name}: {differing:,} of {distance.numel():,} values, by up to {largest:.3g}"
    return ""


def _first_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key, MISSING), after.get(key, MISSING)
        if old != new:
            return f"{key}: {old} -> {new}"
    return ""
