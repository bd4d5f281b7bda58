"""`darkroom deps`: what dvc.yaml must list under each stage, from the code of the stage.

A stage depends on every file of ours that it imports, directly or not, on the requirements files that pin the packages that
these files import, and on the params that they load. A stage that loads the list of models depends on each model.
"""

import ast
import io
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from ruamel.yaml import YAML

from darkroom.system import pins
from darkroom.system.files import write_bytes
from darkroom.system.pipeline import PIPELINE

SOURCE = Path("src/darkroom")
MAIN = SOURCE / "__main__.py"
TORCH = SOURCE / "system/determinism.py"  # what the runner imports besides for a stage that computes with torch
CHANGE_NO_RESULT = {"images.memory"}  # params that need not be listed


def write() -> list[str]:
    """Bring dvc.yaml up to date and return the names of the stages whose lists changed."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(PIPELINE.read_text(encoding="utf-8"))
    changed = []
    for name, stage in tree["stages"].items():
        if (SOURCE / "stages" / f"{name}.py").exists():
            before = list(stage["deps"]), list(stage["params"])
            stage["deps"][:] = deps(name, before[0])
            stage["params"][:] = params(name)
            if before != (list(stage["deps"]), list(stage["params"])):
                changed.append(name)
    if changed:
        buffer = io.StringIO()
        yaml.dump(tree, buffer)
        write_bytes(PIPELINE, buffer.getvalue().encode())
    return changed


def deps(name: str, listed: list[str]) -> list[str]:
    """What the stage `name` depends on: data and models as they are `listed`, then requirements, then code."""
    code = closure(name)
    data = [dep for dep in listed if not dep.startswith(("requirements/", f"{SOURCE}/"))]
    return [*data, *sorted(f"requirements/{file}.txt" for file in requirements(code)), *sorted(map(str, code))]


def params(name: str) -> list[str]:
    """The sections and keys of params.yaml that the stage `name` loads.

    A section is listed whole, but for `images`, whose keys are listed one by one.
    """
    code = closure(name)
    found = {section for path in code for section in loaded_sections(path)}
    if "images" in found:
        loading = [path for path in code if "images" in loaded_sections(path)]
        found |= {key for path in loading for key in read_keys(path, "images")}
    return sorted(found - {"images"} - CHANGE_NO_RESULT)


def closure(name: str) -> set[Path]:
    """Every file of ours that is executed when the stage `name` runs, but for `__init__.py` files, which hold no code."""
    waiting = {MAIN, SOURCE / "stages" / f"{name}.py"}
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        done.add(path)
        waiting |= set(our_imports(path)) - done
        if "torch" in foreign_imports(path):
            waiting |= {TORCH} - done
    return done


@cache
def _parsed(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def our_imports(path: Path) -> Iterator[Path]:
    """The files of ours that a file imports."""
    for node in _parsed(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "darkroom":
            package = SOURCE.parent / Path(*str(node.module).split("."))
            inside = [package / f"{alias.name}.py" for alias in node.names]
            modules = [module for module in inside if module.exists()]
            yield from modules or [package.with_suffix(".py")]


def requirements(code: set[Path]) -> set[str]:
    """The files of requirements/, without `.txt`, that pin a package which some file of `code` imports."""
    owners = packages_distributions()
    packages = {owner.lower() for path in code for module in foreign_imports(path) for owner in owners.get(module, [])}
    stems = sorted(path.stem for path in pins.FOLDER.glob("*.txt"))
    return {stem for stem in stems if packages & {package.lower() for package in pins.read(stem)}}


def foreign_imports(path: Path) -> Iterator[str]:
    """The top-level modules that a file imports from elsewhere."""
    for node in _parsed(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def loaded_sections(path: Path) -> Iterator[str]:
    """The sections that a file loads by `params.load("SECTION", ...)`."""
    for node in _parsed(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load" and len(node.args) == 2:
            yield str(ast.literal_eval(node.args[0]))


def read_keys(path: Path, section: str) -> Iterator[str]:
    """The keys, as `section.key`, that a file reads from a variable that is named as the section."""
    for node in _parsed(path):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == section:
            yield f"{section}.{node.attr}"
