"""dvc.lock: what each stage was made from, and what it made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.system import params as params_file
from darkroom.system.errors import UserError

LOCK = Path("dvc.lock")


def read(root: Path = Path()) -> dict[str, Any]:
    """The stages of dvc.lock by name.

    Raises:
        UserError: There is no dvc.lock.
    """
    try:
        return parse((root / LOCK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no {LOCK} in {root.absolute()}: run `dvc repro`") from None


def parse(text: str) -> dict[str, Any]:
    """The stages of a dvc.lock by name, with numbers as DVC reads them (YAML 1.2)."""
    stages: dict[str, Any] = params_file.parse(text, str(LOCK))["stages"]
    return stages


def outs(stage: Mapping[str, Any]) -> dict[str, str]:
    """The md5 of each output of a stage of dvc.lock, by path."""
    return {out["path"]: out["md5"] for out in stage.get("outs", [])}


def deps(stage: Mapping[str, Any]) -> dict[str, str]:
    """The md5 of each dependency of a stage of dvc.lock, by path."""
    return {dep["path"]: dep["md5"] for dep in stage.get("deps", [])}


def params(stage: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a stage of dvc.lock: the value of each key that the stage lists."""
    used: dict[str, Any] = stage.get("params", {}).get(str(params_file.PARAMS), {})
    return used


def inputs(stage: Mapping[str, Any]) -> dict[str, Any]:
    """All that a stage of dvc.lock was made from: its command, and the md5s and values of its dependencies and params."""
    return {"command": stage.get("cmd"), **deps(stage), **params(stage)}
