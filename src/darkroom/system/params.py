"""params.yaml: reading and checking it. A mistake is one sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from darkroom.system.errors import UserError

PARAMS = Path("params.yaml")
RESERVED = ("comparison", "count", "machine")  # keys of metrics/evaluate.json beside the models

Positive = Annotated[float, Field(gt=0)]
LearningRate = Annotated[float, Field(gt=0, le=1000)]
Count = Annotated[int, Field(ge=1)]


_held: dict[str, Any] | None = None  # what `held` holds


def power_of_two(value: int) -> int:
    """Return `value` if it is a power of two; for pydantic's validators.

    Raises:
        ValueError: It is not.
    """
    if value & (value - 1):
        raise ValueError(f"{value} is not a power of two: say 1, 2, 4, 8 and so on")
    return value


class Section(BaseModel):
    """A section of params.yaml. No key may be unknown, missing or of another type.

    The integer 1 passes for a float, the text "1" does not.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Run(Section):
    """Section `run`, for every stage that computes with torch."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    threads: Annotated[int, Field(ge=1, le=1024)]
    shards: Annotated[int, Field(ge=1, le=1024), AfterValidator(power_of_two)]
    mode: Literal["portable", "native"]
    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]


class Images(Section):
    """Section `images`, for every stage that decodes images."""

    resolution: Annotated[int, Field(ge=8, le=2048)]
    memory: Annotated[int, Field(ge=0)]  # MiB


AnySection = TypeVar("AnySection", bound=Section)


def load(name: str, model: type[AnySection]) -> AnySection:
    """The section `name` of params.yaml in the current folder, checked against `model`.

    Raises:
        UserError: The file or the section is missing or not YAML, or a key is unknown, missing, mistyped or out of range.
    """
    tree = tree_of_params()
    if name not in tree:
        raise UserError(f"{PARAMS} has no section '{name}': add it, `git show HEAD:{PARAMS}` has one to copy")
    try:
        return model.model_validate(tree[name])
    except ValidationError as error:
        raise UserError("; ".join(_sentence(name, detail) for detail in error.errors())) from None


def models() -> list[str]:
    """The names of the models, in the order of params.yaml. The stage train_NAME makes the model NAME.

    Raises:
        UserError: The list is missing or empty, has a name twice, or has a name that cannot name a stage and a file.
    """
    names = tree_of_params().get("models")
    if not (isinstance(names, list) and names):
        raise UserError(f"{PARAMS} has no list 'models': add it, `git show HEAD:{PARAMS}` has one to copy")
    for name in names:
        if not (isinstance(name, str) and re.fullmatch("[a-z][a-z0-9_]*", name)) or name in RESERVED:
            raise UserError(
                f"{PARAMS}: models: {name!r} cannot name a model: use lower-case letters, digits and _, and another name than "
                f"{', '.join(RESERVED)}"
            )
    if len(set(names)) < len(names):
        raise UserError(f"{PARAMS}: models: a name stands there twice: keep one of the two")
    pairs = ["_".join(pair) for pair in combinations(names, 2)]  # as in metrics/evaluate.json
    if len(set(pairs)) < len(pairs):
        raise UserError(
            f"{PARAMS}: models: two pairs of names give the same text if they are joined by _: rename a model"
        )
    return names


@contextmanager
def held() -> Iterator[None]:
    """Hold params.yaml as it is now: within it, nothing sees an edit that comes later.

    Raises:
        UserError: The file is missing or is not YAML.
    """
    global _held
    _held = tree_of_params()
    try:
        yield
    finally:
        _held = None


def tree_of_params() -> dict[str, Any]:
    """params.yaml in the current folder, unchecked, or what is `held` of it.

    Raises:
        UserError: The file is missing or is not YAML.
    """
    if _held is not None:
        return _held
    if not PARAMS.is_file():
        raise UserError(f"there is no {PARAMS} in {Path.cwd()}: run from the project's top folder")
    tree = read(PARAMS)
    return tree if isinstance(tree, dict) else {}


def refuse_unknown(sections: set[str]) -> None:
    """Refuse a section of params.yaml that is not among `sections`: its name is probably misspelled.

    Raises:
        UserError: params.yaml has an unknown section.
    """
    if unknown := sorted(map(str, tree_of_params().keys() - sections)):
        raise UserError(
            f"{PARAMS}: no stage of dvc.yaml has params of the section '{unknown[0]}': remove it or mend its spelling"
        )


def read(path: Path) -> Any:
    """The content of a YAML file, with numbers as in YAML 1.2.

    Raises:
        UserError: It is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8, mend it: {error}") from None
    return parse(text, str(path))


def parse(text: str, name: str = str(PARAMS)) -> Any:
    """The content of YAML text, with numbers as in YAML 1.2. `name` is what a message calls it.

    Raises:
        UserError: It is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML, mend it: {' '.join(str(error).split())}") from None


def pattern(text: str | None) -> str | None:
    """Return `text` if it is a regular expression or None; for pydantic's validators.

    Raises:
        ValueError: It is not.
    """
    try:
        re.compile(text or "")
    except re.error as error:
        raise ValueError(f"'{text}' is not a regular expression ({error}): mend it, or say null") from None
    return text


def _sentence(section: str, detail: object) -> str:
    """One of pydantic's errors as a sentence: where, what, what to do."""
    assert isinstance(detail, dict)
    key = ".".join([section, *(str(part) for part in detail["loc"])])
    match detail["type"]:
        case "extra_forbidden":
            return f"{PARAMS}: {key} is not a key that darkroom knows: remove it or mend its spelling"
        case "missing":
            return f"{PARAMS}: {key} is missing: add it, `git show HEAD:{PARAMS}` has its default"
        case "value_error":
            return f"{PARAMS}: {key}: {detail['ctx']['error']}"
        case _:
            need = detail["msg"][0].lower() + detail["msg"][1:]
            return f"{PARAMS}: {key} is {detail['input']!r}, but {need}: mend it"


class _Loader(yaml.SafeLoader):
    """A loader that reads 1e-05 as a number, as YAML 1.2 and DVC do. In YAML 1.1, which PyYAML reads, it is text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)
