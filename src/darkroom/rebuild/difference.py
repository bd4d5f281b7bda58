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
        TypeError,
        AttributeError,
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
    return _first_of(_in_order(before), _in_order(after))


def _in_order(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself, then its weights, then its calibration: other weights have another one."""
    own = {key: value for key, value in content.items() if key not in ("state_dict", "calibration")}
    return dict(leaves({**own, **content["state_dict"], "calibration": content.get("calibration", {})}))


def _first_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    for key in dict.fromkeys([*before, *after]):
        if found := _between(before.get(key, MISSING), after.get(key, MISSING)):
            return f"{key}: {found}"
    return ""


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape")  # torch is imported for checkpoints alone


def _between(old: Any, new: Any) -> str:
    """How two plain values or tensors differ, "" if they do not. In tensors, NaN is the same as NaN."""
    if not (_is_tensor(old) and _is_tensor(new)):
        return f"{_form(old)} -> {_form(new)}" if _is_tensor(old) or _is_tensor(new) or old != new else ""
    if (old.shape, old.dtype) != (new.shape, new.dtype):
        return f"{_form(old)} -> {_form(new)}"
    differs = (old != new) & ~(old.isnan() & new.isnan())
    if not differs.any():
        return ""
    largest = (old.double() - new.double()).abs()[differs].max()
    return f"{int(differs.sum()):,} of {differs.numel():,} values, by up to {float(largest):.3g}"


def _form(value: Any) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}" if _is_tensor(value) else str(value)
