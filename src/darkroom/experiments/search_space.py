"""Read and check a search space, such as tune.yaml: the params of a training that a search may change, and their ranges."""

import contextlib
import functools
import importlib.util
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from darkroom.system import params, pipeline
from darkroom.system.errors import UserError
from darkroom.system.trees import value_at


class Dimension(params.Section):
    """The range of one param, or its choices."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: list[bool | int | float | str | None] | None = None


class Space(params.Section):
    """The training stage whose val loss is to become lower, and the params that may change, by dotted key."""

    stage: Annotated[str, Field(pattern="^train_[a-z0-9_]+$")]
    params: Annotated[dict[str, Dimension], Field(min_length=1)]


def read(path: Path, project: Path = Path()) -> Space:
    """Read the search space in a YAML file. The bounds of an integer param are integers.

    Args:
        path: The file.
        project: The folder whose dvc.yaml and params.yaml the space is checked against.

    Raises:
        UserError: The file is missing or damaged, names something that is not a param of the stage, or gives a param a value
            that it cannot have.
    """
    if not path.is_file():
        raise UserError(f"there is no {path}: write one; `git show HEAD:tune.yaml` prints one as an example")
    try:
        space = Space.model_validate(params.read(path))
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}: mend it") from None
    with contextlib.chdir(project):
        return _checked(path, space)


def _checked(path: Path, space: Space) -> Space:
    """Check `space`, which was read from `path`, against the project in the current folder.

    Raises:
        UserError: It names a stage whose params cannot be checked or something that is not a param of it, or gives a param a
            value that it cannot have.
    """
    if space.stage not in pipeline.stages():
        raise UserError(
            f"{path}: stage: {pipeline.PIPELINE} has no stage '{space.stage}': name one that trains a model"
        )
    if not importlib.util.find_spec(f"darkroom.stages.{space.stage}"):
        raise UserError(
            f"{path}: stage: '{space.stage}' has no file in src/darkroom/stages, whose Params say which values it can have: add "
            "one, or name another stage"
        )
    tree = params.read(params.PARAMS)
    for key, dimension in space.params.items():
        _check_form(path, space.stage, key, dimension, value_at(tree, key))
    checked = {key: _check_values(path, space.stage, key, dimension) for key, dimension in space.params.items()}
    return space.model_copy(update={"params": checked})


def _check_form(path: Path, stage: str, key: str, dimension: Dimension, current: Any) -> None:
    """Check that `key` is a param of the stage, and that it has either a range or choices.

    Raises:
        UserError: There is no such param, or the dimension has another form.
    """
    low, high = dimension.low, dimension.high
    has_range = low is not None and high is not None and low < high and (low > 0 or not dimension.log)
    if current is None:
        raise UserError(f"{path}: params.{key}: params.yaml has no such param: mend its spelling")
    if isinstance(current, dict) or has_range == bool(dimension.choices):
        raise UserError(
            f"{path}: params.{key}: name a param, with `low` and a larger `high`, or with `choices`; `low` must be above 0 if "
            "`log` is true"
        )
    if not key.startswith(f"{stage}."):
        raise UserError(f"{path}: params.{key}: only params of {stage} can be searched: the others change val itself")


def _check_values(path: Path, stage: str, key: str, dimension: Dimension) -> Dimension:
    """Check that the stage accepts each choice, or both bounds. Return the dimension with bounds of the param's type.

    Raises:
        UserError: The stage refuses a value.
    """
    section: type[params.Section] = importlib.import_module(f"darkroom.stages.{stage}").Params
    tree = params.load(stage, section).model_dump()
    *parents, name = key.split(".")[1:]
    values = dimension.choices or [dimension.low, dimension.high]
    for value in values:
        functools.reduce(dict.__getitem__, parents, tree)[name] = value
        try:
            accepted = section.model_validate(tree).model_dump()
        except ValidationError as error:
            detail = error.errors()[0]["msg"]
            raise UserError(f"{path}: params.{key} cannot be {value!r} ({detail}): correct it") from None
    if dimension.choices:
        return dimension
    kind = type(functools.reduce(dict.__getitem__, parents, accepted)[name])
    low, high = map(kind, values)
    return dimension.model_copy(update={"low": low, "high": high})


def as_they_are(space: Space, project: Path) -> dict[str, Any]:
    """The values of the searched params in params.yaml of `project`. {} if one of them lies outside the space."""
    tree = params.read(project / params.PARAMS)
    current = {key: value_at(tree, key) for key in space.params}
    return current if all(_holds(space.params[key], value) for key, value in current.items()) else {}


def _holds(dimension: Dimension, value: Any) -> bool:
    """Whether `value` is one of the choices, or lies within the range."""
    if dimension.choices:
        return value in dimension.choices
    return dimension.low is not None and dimension.high is not None and dimension.low <= value <= dimension.high
