"""JSON that commands print for programs."""

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(tree: Mapping[str, Any]) -> str:
    """`tree` as JSON with a newline at the end. NaN and infinite numbers, which JSON cannot hold, are null."""
    return json.dumps(_without_nan(tree), indent=2, ensure_ascii=True) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
