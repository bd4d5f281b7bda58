"""Nested dicts and lists, such as params.yaml and the metrics."""

from collections.abc import Iterator
from typing import Any


def value_at(tree: Any, key: str) -> Any:
    """The value of a dotted key, such as `train_scratch.lr`, in nested dicts; None if there is no such key."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in `tree` that is neither a dict nor a list."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree
