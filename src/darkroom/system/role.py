"""What this process is in a training with several workers. It needs no torch, because a stage asks before torch is set up."""

import json
import os
from dataclasses import asdict, dataclass

VARIABLE = "DARKROOM_ROLE"  # Darkroom sets it; people set DARKROOM_WORKERS


@dataclass(frozen=True)
class Role:
    """A worker that is not the stage that DVC started: it computes, and writes no result.

    Attributes:
        meeting: Where the workers meet: HOST:PORT of the first machine, or a file if there is one machine.
        rank: The number of the worker among all `count`; None: the first worker of a machine that asks to take part.
        local: Its number on this machine, from 0.
        each: The number of workers on each machine.
        count: The number of workers in all.
        pixels: The open files that hold the decoded images of each folder; the first worker of the machine has decoded them.
    """

    meeting: str
    rank: int | None
    local: int
    each: int
    count: int
    pixels: dict[str, int]

    def environment(self) -> dict[str, str]:
        """The variables with which such a worker is started."""
        return os.environ | {VARIABLE: json.dumps(asdict(self))}


def of_this_process() -> Role | None:
    """The role of this process, or None if it is the stage that DVC or a person has started."""
    text = os.environ.get(VARIABLE)
    return Role(**json.loads(text)) if text else None
