"""Runs one stage: settles the environment first, and turns a user's mistake into a sentence."""

import importlib
import sys

from darkroom import determinism, params
from darkroom.errors import UserError

# In the order of the DAG. True where the stage computes with torch, whose CPU caps must stand before its import.
STAGES = {
    "split": False,
    "stats": False,
    "train_scratch": True,
    "train_finetune": True,
    "evaluate": True,
    "tsne": True,
}


def run(name: str) -> int:
    """Run the stage `name` in the current folder and return its exit code: 0, or 2 for a mistake of the user's."""
    try:
        if STAGES[name]:
            determinism.prepare(params.load("run", params.Run))
        importlib.import_module(f"darkroom.{name}").main()
    except UserError as error:
        print(f"darkroom {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ndarkroom {name}: interrupted; the next run goes on from the last finished epoch", file=sys.stderr)
        return 130
    return 0
