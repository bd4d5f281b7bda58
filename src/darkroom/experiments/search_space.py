"""A search space: which params of a training may be changed, and how far. tune.yaml, read and checked."""

import functools
import importlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from darkroom.system import params
from darkroom.system.errors import UserError
from darkroom.system.trees import value_at


class Dimension(params.Section):
    """One param's range, or its choices."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: list[bool | int | float | str | None] | None = None


class Space(params.Section):
    """A search space: which training is to become better, and what may be changed for it."""

    stage: Annotated[str, Field(pattern="^train_(scratch|finetune)$")]
    params: Annotated[dict[str, Dimension], Field(min_length=1)]


def read(path: Path) -> Space:
    """The search space in a YAML file.

    Raises:
        UserError: It is missing or is not one, or names no param, or values that the param cannot have.
    """
    if not path.is_file():
        raise UserError(f"there is no {path}: write one, `git show HEAD:tune.yaml` has one to copy")
    try:
        space = Space.model_validate(params.read(path))
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}: mend it") from None
    tree = params.read(params.PARAMS)
    for key, dimension in space.params.items():
        now = value_at(tree, key)
        low, high = dimension.low, dimension.high
        ranged = low is not None and high is not None and low < high and (low > 0 or not dimension.log)
        if now is None or isinstance(now, dict) or ranged == bool(dimension.choices):
            raise UserError(
                f"{path}: params.{key}: name a param, with `low` (above 0 where `log` is true) and a larger `high`, or with "
                "`choices`"
            )
        if not key.startswith(f"{space.stage}."):
            raise UserError(
                f"{path}: params.{key}: only params of {space.stage} can be searched: the others change val itself"
            )
    return space.model_copy(
        update={"params": {key: _checked(path, space.stage, key, own) for key, own in space.params.items()}}
    )


def _checked(path: Path, stage: str, key: str, dimension: Dimension) -> Dimension:
    """`dimension`, its bounds of the type of its param, once the stage takes each of its choices, or both its bounds.

    Raises:
        UserError: It does not.
    """
    section: type[params.Section] = importlib.import_module(f"darkroom.stages.{stage}").Params
    tree = params.load(stage, section).model_dump()
    *above, last = key.split(".")[1:]
    place = functools.reduce(dict.__getitem__, above, tree)
    values = dimension.choices or [dimension.low, dimension.high]
    for value in values:
        place[last] = value
        try:
            taken = section.model_validate(tree).model_dump()
        except ValidationError as error:
            detail = error.errors()[0]["msg"]
            raise UserError(f"{path}: params.{key} cannot be {value!r} ({detail}): mend it") from None
    if dimension.choices:
        return dimension
    kind = type(functools.reduce(dict.__getitem__, above, taken)[last])
    low, high = map(kind, values)
    return dimension.model_copy(update={"low": low, "high": high})


def as_they_are(space: Space) -> dict[str, Any]:
    """The searched params as params.yaml has them; none where one of them lies outside the space."""
    tree = params.read(params.PARAMS)
    now = {key: value_at(tree, key) for key in space.params}
    return now if all(_holds(space.params[key], value) for key, value in now.items()) else {}


def _holds(dimension: Dimension, value: Any) -> bool:
    """Whether `value` is one of the choices, or within the range."""
    if dimension.choices:
        return value in dimension.choices
    return dimension.low is not None and dimension.high is not None and dimension.low <= value <= dimension.high
