"""dvc.yaml tells DVC the truth: each stage's deps are its import closure, its params those that it reads."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from conftest import run
from darkroom import runner
from darkroom.system import environment

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "darkroom"
DAG = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


# What the stages load besides: it reads and checks params, shows progress, guards a file, types and names things, or
# fetches weights, whose hash is checked. triton and CUDA's packages come with torch, and by its version.
CANNOT_CHANGE_A_RESULT = {
    *(
        "pyyaml",
        "pydantic",
        "pydantic_core",
        "annotated-types",
        "typing_extensions",
        "typing-inspection",
        "tqdm",
        "rich",
    ),
    *("colorama", "filelock", "packaging", "setuptools", "darkroom", "six", "python-dateutil", "charset-normalizer"),
    *("cloudpickle", "narwhals", "psutil", "mpmath", "sympy", "pydot", "huggingface_hub", "httpx2", "httpcore2", "h11"),
    *("anyio", "idna", "truststore", "cuda-bindings", "cuda-pathfinder", "triton"),
}
LOADED = """
import importlib, importlib.metadata, sys
from darkroom import runner
from darkroom.system import determinism, params
if runner.with_torch(sys.argv[1]):
    determinism.prepare(params.load("run", params.Run))
importlib.import_module(f"darkroom.stages.{sys.argv[1]}")
owners = importlib.metadata.packages_distributions()
print(*{owner.lower() for module in list(sys.modules) for owner in owners.get(module.split(".")[0], [])})
"""


@cache
def loaded(name: str) -> set[str]:
    """The packages, in lower case, that are loaded once the stage `name` is."""
    return set(run("python", "-c", LOADED, name, cwd=ROOT).split())


def source(module: str) -> Path:
    """The file of a module of ours."""
    return ROOT / "src" / Path(*module.split(".")).with_suffix(".py")


def imports(path: Path) -> set[Path]:
    """The modules of ours that the code in `path` imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "darkroom":
            inside = {source(f"{node.module}.{alias.name}") for alias in node.names}
            found |= {path for path in inside if path.exists()} or {source(str(node.module))}
    return found


def closure(name: str) -> set[Path]:
    """Every file of ours that running the stage `name` executes, but for packages' `__init__.py`, which hold no code."""
    waiting = {SOURCE / "__main__.py", SOURCE / "stages" / f"{name}.py"}
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        done.add(path)
        waiting |= imports(path) - done
    return done


def params_read(name: str) -> set[str]:
    """The sections of params.yaml that the stage's own code, or the runner on its behalf, loads.

    Of `images`, only the resolution counts: where pixels are kept changes no result.
    """
    nodes = list(ast.walk(ast.parse((SOURCE / "stages" / f"{name}.py").read_text())))
    loads = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load"]
    loaded = {call.args[0].value for call in loads if isinstance(call.args[0], ast.Constant)}
    read = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    if "images" in loaded:
        loaded.remove("images")
        loaded |= {"images.resolution"} & read
    return loaded | ({"run"} if runner.with_torch(name) else set())


def test_the_stages_are_those_of_the_design() -> None:
    assert list(DAG) == list(runner.STAGES)
    assert all(own["desc"] for own in DAG.values())


@pytest.mark.parametrize("name", DAG)
def test_deps_are_the_import_closure(name: str) -> None:
    declared = {ROOT / dep for dep in DAG[name]["deps"] if dep.startswith("src/")}
    assert declared == closure(name)


@pytest.mark.parametrize("name", DAG)
def test_requirements_are_those_that_it_loads(name: str) -> None:
    """A package that can change a result is pinned in a file that the stage depends on; a linter is in none."""
    declared = {dep for dep in DAG[name]["deps"] if dep.startswith("requirements/")}
    assert declared == {f"requirements/{file}.txt" for file in runner.STAGES[name]}
    pinned = {package.lower() for file in runner.STAGES[name] for package in environment.pins(file)}
    assert "numpy" in loaded(name)
    assert loaded(name) - pinned <= CANNOT_CHANGE_A_RESULT


@pytest.mark.parametrize("name", DAG)
def test_params_are_those_that_are_read(name: str) -> None:
    assert set(DAG[name]["params"]) == params_read(name)


@pytest.mark.parametrize("name", DAG)
def test_no_stage_imports_a_stage(name: str) -> None:
    assert {path.stem for path in closure(name)} & set(DAG) == {name}


@pytest.mark.parametrize("name", DAG)
def test_stages_without_torch_do_not_import_it(name: str) -> None:
    """Directly or by way of a library that is built on it."""
    assert ("torch" in loaded(name)) == runner.with_torch(name)


def test_packages_hold_no_code() -> None:
    """So that their `__init__.py` need not be dependencies: each is one sentence on what lives there."""
    for path in SOURCE.rglob("__init__.py"):
        assert len(ast.parse(path.read_text()).body) == 1
        assert ast.get_docstring(ast.parse(path.read_text()))
