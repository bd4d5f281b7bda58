"""dvc.yaml tells DVC the truth: each stage's deps are its import closure, its params those that it reads."""

import ast
from pathlib import Path

import pytest
import yaml

from darkroom import stage

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "darkroom"
DAG = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def imports(path: Path) -> set[Path]:
    """The modules of ours that the code in `path` imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "darkroom":
            found |= {SOURCE / f"{alias.name}.py" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("darkroom."):
            found.add(SOURCE / f"{str(node.module).split('.')[1]}.py")
    return found


def closure(name: str) -> set[Path]:
    """Every file of ours that running the stage `name` executes."""
    waiting = {SOURCE / "__init__.py", SOURCE / "__main__.py", SOURCE / f"{name}.py"}
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        done.add(path)
        waiting |= imports(path) - done
    return done


def sections_read(name: str) -> set[str]:
    """The sections of params.yaml that the stage's own code, or the runner on its behalf, loads."""
    calls = [node for node in ast.walk(ast.parse((SOURCE / f"{name}.py").read_text())) if isinstance(node, ast.Call)]
    loaded = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "params.load"
        if isinstance(call.args[0], ast.Constant)
    }
    return loaded | ({"run"} if stage.STAGES[name] else set())


def test_the_stages_are_those_of_the_design() -> None:
    assert list(DAG) == list(stage.STAGES)
    assert all(own["desc"] for own in DAG.values())


@pytest.mark.parametrize("name", DAG)
def test_deps_are_the_import_closure(name: str) -> None:
    declared = {ROOT / dep for dep in DAG[name]["deps"] if dep.startswith("src/")}
    assert declared == closure(name)


@pytest.mark.parametrize("name", DAG)
def test_params_are_those_that_are_read(name: str) -> None:
    assert set(DAG[name]["params"]) == sections_read(name)


@pytest.mark.parametrize("name", DAG)
def test_no_stage_imports_a_stage(name: str) -> None:
    assert {path.stem for path in closure(name)} & set(DAG) == {name}


def test_stages_without_torch_do_not_import_it() -> None:
    """Directly or by way of a library that is built on it."""
    for name, with_torch in stage.STAGES.items():
        roots = {
            alias.name.split(".")[0]
            for path in closure(name)
            if path.stem != "determinism"  # imports it in a function that those stages do not call
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert bool(roots & {"torch", "torchvision", "timm"}) == with_torch, name
