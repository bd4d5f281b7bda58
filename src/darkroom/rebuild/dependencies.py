"""`darkroom deps`: find what each stage depends on in its code, and write it into dvc.yaml.

A stage depends on all files of `darkroom` that it imports, directly or indirectly. It also depends on the params that these files
load, and on the requirements files that pin the packages that they import. A stage that reads the list of models depends on each
model.
"""

import ast
import io
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from darkroom.system import params as read_params
from darkroom.system import pins
from darkroom.system.errors import UserError
from darkroom.system.files import write_bytes
from darkroom.system.pipeline import PIPELINE

SOURCE = Path("src/darkroom")
MAIN = SOURCE / "__main__.py"
TORCH = SOURCE / "system/determinism.py"  # the runner imports it by name before a stage that uses torch
CHANGE_NO_RESULT = {"images.memory"}  # params that change no result and are therefore not listed


def write() -> list[str]:
    """Update the deps and params of each stage in dvc.yaml, and return the names of the stages that changed."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(PIPELINE.read_text(encoding="utf-8"))
    changed = []
    for name, stage in tree["stages"].items():
        if (SOURCE / "stages" / f"{name}.py").exists():
            before = list(stage.setdefault("deps", [])), list(stage.setdefault("params", []))
            stage["deps"][:], stage["params"][:] = deps(name, tree["stages"]), params(name)
            if before != (list(stage["deps"]), list(stage["params"])):
                changed.append(name)
    if changed:
        buffer = io.StringIO()
        yaml.dump(tree, buffer)
        write_bytes(PIPELINE, buffer.getvalue().encode())
    return changed


def deps(name: str, stages: Mapping[str, Any]) -> list[str]:
    """The deps of the stage `name`: data as listed in `stages`, models and curves, requirements files, and code.

    Args:
        name: The stage.
        stages: The stages of dvc.yaml by name.
    """
    code = closure(name)
    computed = ("requirements/", f"{SOURCE}/", "models/", "plots/")
    return [
        *(dep for dep in stages[name]["deps"] if not dep.startswith(computed)),
        *(models_and_curves(code, stages) if called(code, "params.models") else []),
        *sorted(f"requirements/{file}.txt" for file in requirements(code)),
        *sorted(map(str, code)),
    ]


def models_and_curves(code: set[Path], stages: Mapping[str, Any]) -> Iterator[str]:
    """The checkpoints of all models. If `code` reads curves, also the curves of the models that have some.

    A model has curves if its training stage lists them under `plots` in dvc.yaml.

    Raises:
        UserError: params.yaml lists a model that no stage trains.
    """
    names = read_params.models()
    if missing := [name for name in names if f"train_{name}" not in stages]:
        raise UserError(
            f"{read_params.PARAMS} lists the model '{missing[0]}', but {PIPELINE} has no stage train_{missing[0]}: add the "
            "stage, or remove the model from the list"
        )
    yield from (f"models/{name}.pth" for name in names)
    if called(code, "history.path"):
        for name in names:
            curves = f"plots/train_{name}.csv"
            plots = stages.get(f"train_{name}", {}).get("plots", [])
            if any(curves in plot for plot in plots):  # a plot is a path, or a dict of path -> settings
                yield curves


def params(name: str) -> list[str]:
    """The sections of params.yaml that the stage `name` loads. For the section `images`, the keys that it reads."""
    code = closure(name)
    found = {section for path in code for section in loaded_sections(path)}
    if called(code, "params.models"):
        found.add("models")
    if "images" in found:
        loading = [path for path in code if "images" in loaded_sections(path)]
        found |= {key for path in loading for key in read_keys(path, "images")}
    return sorted(found - {"images"} - CHANGE_NO_RESULT)


def closure(name: str) -> set[Path]:
    """All files of `darkroom` that the stage `name` runs, except the `__init__.py` files, which hold no code."""
    unread = {MAIN, SOURCE / "stages" / f"{name}.py"}
    done: set[Path] = set()
    while unread:
        path = unread.pop()
        done.add(path)
        unread |= set(our_imports(path)) - done
        if "torch" in foreign_imports(path):
            unread |= {TORCH} - done
    return done


@cache
def _parsed(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def our_imports(path: Path) -> Iterator[Path]:
    """The files of `darkroom` that a file imports directly."""
    for node in _parsed(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "darkroom":
            package = SOURCE.parent / Path(*str(node.module).split("."))
            inside = [package / f"{alias.name}.py" for alias in node.names]
            modules = [module for module in inside if module.exists()]
            yield from modules or [package.with_suffix(".py")]


def requirements(code: set[Path]) -> set[str]:
    """The names, without `.txt`, of the files in requirements/ that pin a package that `code` imports."""
    packages_of = _packages_of_modules()
    modules = {module for path in code for module in foreign_imports(path)}
    packages = {package.lower() for module in modules for package in packages_of.get(module, [])}
    stems = sorted(path.stem for path in pins.FOLDER.glob("*.txt"))
    return {stem for stem in stems if packages & {package.lower() for package in pins.read(stem)}}


@cache
def _packages_of_modules() -> Mapping[str, list[str]]:
    return packages_distributions()  # takes a second: it reads the metadata of every installed package


def foreign_imports(path: Path) -> Iterator[str]:
    """The top-level modules that a file imports, such as `torch`. Those of `darkroom` are among them."""
    for node in _parsed(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def loaded_sections(path: Path) -> Iterator[str]:
    """The sections of params.yaml that a file loads with `params.load("SECTION", ...)`."""
    for node in _parsed(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load" and len(node.args) == 2:
            yield str(ast.literal_eval(node.args[0]))


def called(code: set[Path], function: str) -> bool:
    """Whether a file of `code` calls `function`, which is given as `module.function`."""
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func) == function for path in code for node in _parsed(path)
    )


def read_keys(path: Path, section: str) -> Iterator[str]:
    """The keys, as `section.key`, that a file reads from a variable with the name of the section."""
    for node in _parsed(path):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == section:
            yield f"{section}.{node.attr}"
