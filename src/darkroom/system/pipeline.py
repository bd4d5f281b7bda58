"""dvc.yaml: which stages there are, and what each depends on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from darkroom.system.errors import UserError

PIPELINE = Path("dvc.yaml")


def stages() -> dict[str, Any]:
    """The stages of dvc.yaml in the current folder, by name and in order.

    Raises:
        UserError: There is no dvc.yaml, or it is damaged.
    """
    if not PIPELINE.is_file():
        raise UserError(f"there is no {PIPELINE} in {Path.cwd()}: run from the project's top folder")
    try:
        found: dict[str, Any] = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{PIPELINE} is damaged ({reason}): get it back by `git checkout {PIPELINE}`") from None
    return found


def entry(name: str) -> dict[str, Any]:
    """The stage `name` of dvc.yaml.

    Raises:
        UserError: There is no such stage.
    """
    found = stages()
    if name not in found:
        raise UserError(f"{PIPELINE} has no stage '{name}': add it, or mend its spelling")
    return dict(found[name])


def outs(stage: Mapping[str, Any]) -> list[Path]:
    """The outs of a stage, those that are metrics or plots among them."""
    listed = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    return [Path(path) for out in listed for path in ([out] if isinstance(out, str) else out)]


def requirements(stage: dict[str, Any]) -> list[str]:
    """The files of requirements/ that a stage depends on, by name without `.txt`."""
    deps = map(Path, stage.get("deps", []))
    return [dep.stem for dep in deps if dep.parent == Path("requirements")]


def sections(every: dict[str, Any]) -> set[str]:
    """The sections of params.yaml that some stage lists."""
    return {key.split(".")[0] for stage in every.values() for key in stage.get("params", []) if isinstance(key, str)}
