"""params.yaml: read, checked, and refused in one sentence where it is wrong."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.system.errors import UserError

PARAMS = Path("params.yaml")

Positive = Annotated[float, Field(gt=0)]
LearningRate = Annotated[float, Field(gt=0, le=1000)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of params.yaml: no key unknown, none missing, each of its own type (1 is a float, "1" is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Run(Section):
    """`run`: what every stage that computes with torch shares."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    threads: Annotated[int, Field(ge=1, le=1024)]
    mode: Literal["portable", "native"]
    device: Literal["cpu", "cuda", "auto"]
    precision: Literal["float32", "bfloat16"]


class Images(Section):
    """`images`: how files become pixels, for every stage that looks at them."""

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


def tree_of_params() -> dict[str, Any]:
    """params.yaml in the current folder, unchecked.

    Raises:
        UserError: The file is missing, or is no YAML mapping.
    """
    if not PARAMS.is_file():
        raise UserError(f"there is no {PARAMS} in {Path.cwd()}: run from the project's top folder")
    tree = read(PARAMS)
    return tree if isinstance(tree, dict) else {}


def refuse_unknown(sections: set[str]) -> None:
    """Refuse a section of params.yaml that is not among `sections`: its name is probably misspelled.

    Raises:
        UserError: There is one.
    """
    if unknown := sorted(map(str, tree_of_params().keys() - sections)):
        raise UserError(
            f"{PARAMS}: no stage of dvc.yaml has params of the section '{unknown[0]}': remove it or mend its spelling"
        )


def read(path: Path) -> Any:
    """What a YAML file says, numbers as in YAML 1.2.

    Raises:
        UserError: It is not YAML.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML, mend it: {' '.join(str(error).split())}") from None


def parse(text: str) -> Any:
    """What YAML text says, numbers as in YAML 1.2."""
    return yaml.load(text, Loader=_Loader)


def pattern(text: str | None) -> str | None:
    """`text` when it is a regular expression or None; for pydantic's validators.

    Raises:
        ValueError: It is not.
    """
    try:
        re.compile(text or "")
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression ({error}): mend it, or say null") from None
    return text


def _sentence(section: str, detail: object) -> str:
    """One of pydantic's complaints in our words: where, what, what to do."""
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
    """PyYAML reads YAML 1.1, where 1e-05 is text; DVC writes and reads YAML 1.2, where it is a number. So do we."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)
