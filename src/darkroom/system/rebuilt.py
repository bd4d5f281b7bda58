"""What `darkroom verify` found, as a file that `darkroom pr-report` reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from darkroom.system import files
from darkroom.system.errors import UserError


class Rebuilt(BaseModel, extra="forbid"):
    """What a rebuild of a commit gave.

    Attributes:
        commit: The commit that was rebuilt.
        committed: The digest of its dvc.lock.
        rebuilt: The digest of the dvc.lock of the rebuild.
        stages: Stage -> output -> how the rebuilt output differs from the committed one; "" if it has the same bytes.
        seconds: Stage -> how long it took, as it has printed itself.
    """

    commit: str
    committed: str
    rebuilt: str
    stages: dict[str, dict[str, str]]
    seconds: dict[str, float] = {}

    def different(self) -> dict[str, dict[str, str]]:
        """The stages of which some output differs, with these outputs."""
        found = {name: {path: how for path, how in outs.items() if how} for name, outs in self.stages.items()}
        return {name: outs for name, outs in found.items() if outs}


def digest(stages: Mapping[str, Any]) -> str:
    """A digest of the stages of a dvc.lock, whatever their order and the line ends of the file."""
    return files.sha256(json.dumps(stages, sort_keys=True, default=str).encode())


def read(path: Path) -> Rebuilt:
    """What `darkroom verify --report PATH` wrote.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        return Rebuilt.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise UserError(f"{path} is missing or damaged: run `darkroom verify --report {path}`") from None
