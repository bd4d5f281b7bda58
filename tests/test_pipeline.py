"""dvc.yaml tells DVC the truth: what each stage depends on, reads, writes and loads, compared with what it does when it runs."""

import ast
import json
import shutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, copy_project, read_json, run, stage
from darkroom import runner
from darkroom.rebuild import dependencies, templates
from darkroom.system import params, pins, pipeline

SOURCE = ROOT / "src" / "darkroom"
DAG: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
TORCH = {"train_scratch", "train_finetune", "evaluate", "tsne"}  # the stages that compute with it


# What the stages load besides: it reads and checks params, shows progress, guards a file, types and names things, prints
# tables, starts programs, or fetches weights, whose hash is checked. triton and CUDA's packages come with torch, by its version.
CANNOT_CHANGE_A_RESULT = {
    *("pyyaml", "pydantic", "pydantic_core", "annotated-types", "typing_extensions", "typing-inspection", "tqdm", "rich"),
    *("colorama", "filelock", "packaging", "setuptools", "darkroom", "six", "python-dateutil", "charset-normalizer"),
    *("cloudpickle", "narwhals", "psutil", "pandas", "mpmath", "sympy", "pydot", "tabulate", "wcwidth"),
    *("huggingface_hub", "httpx2", "httpcore2", "h11", "anyio", "idna", "truststore", "triton"),
    *("cuda-bindings", "cuda-pathfinder"),
}  # fmt: skip


def requirements(name: str) -> list[str]:
    """The requirements files that dvc.yaml lists for a stage."""
    return pipeline.requirements(DAG[name])


@cache
def owners_of_modules() -> Mapping[str, list[str]]:
    """Top-level module -> the packages that have it. It takes a second."""
    return packages_distributions()


def loaded(audit: Path, name: str) -> dict[str, str | None]:
    """Module -> file, of what the stage `name` had loaded when it ended."""
    files: dict[str, str | None] = read_json(audit / f"{name}.json")
    return files


def packages(audit: Path, name: str) -> set[str]:
    """The packages, in lower case, that the stage `name` loads."""
    owners, modules = owners_of_modules(), {module.split(".")[0] for module in loaded(audit, name)}
    return {owner.lower() for module in modules for owner in owners.get(module, [])}


def touched(audit: Path, name: str, project: Path) -> set[tuple[str, str]]:
    """(read or write, path) of the files of `project` that the stage `name` touched."""
    lines = (audit / f"{name}.log").read_text(errors="surrogateescape").splitlines()
    seen = {(how, Path(path)) for how, path in (line.split(" ", 1) for line in set(lines))}
    return {(how, path.relative_to(project).as_posix()) for how, path in seen if path.is_relative_to(project)}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's own files as they are, as the current folder."""
    copy_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    dependencies._parsed.cache_clear()
    return tmp_path


@pytest.mark.fast
@pytest.mark.usefixtures("sources")
def test_dvc_yaml_and_the_plot_templates_are_up_to_date() -> None:
    stale = [*dependencies.write(), *templates.write()]
    assert not stale, f"dvc.yaml or .dvc/plots is stale ({', '.join(stale)}): run `make deps`"


@pytest.mark.fast
def test_deps_repairs_what_is_stale_and_leaves_the_rest(sources: Path) -> None:
    dag, template = sources / "dvc.yaml", sources / ".dvc/plots/tsne.json"
    right = dag.read_text(), template.read_text()
    dag.write_text(
        right[0].replace("      - src/darkroom/training/loop.py\n", "", 1).replace("[evaluate, models, run]", "[run]")
    )
    template.write_text(right[1].replace("#", "#0", 1))
    code = sources / "src/darkroom/stages/stats.py"
    assert dependencies.write() == ["train_scratch", "evaluate"]
    assert templates.write() == ["tsne"]
    assert (dag.read_text(), template.read_text()) == right

    code.write_text(code.read_text() + "\nfrom darkroom.data import demo\n")
    dependencies._parsed.cache_clear()
    assert dependencies.write() == ["stats"]
    stats = yaml.safe_load(dag.read_text())["stages"]["stats"]
    assert "src/darkroom/data/demo.py" in stats["deps"]


@pytest.mark.fast
@pytest.mark.product
def test_the_stages_are_those_of_the_design() -> None:
    assert list(DAG) == ["split", "stats", "train_scratch", "train_finetune", "evaluate", "tsne"]
    assert sorted(DAG) == runner.names()
    assert all(own["desc"] for own in DAG.values())


@pytest.mark.parametrize("name", DAG)
def test_deps_are_the_code_that_is_loaded(name: str, audit: Path) -> None:
    """Of ours, when DVC ran the stage; but for packages' `__init__.py`, which hold no code."""
    project = audit.parent / "solar cells"
    files = {Path(file).resolve() for file in loaded(audit, name).values() if file}
    code = {path.relative_to(project).as_posix() for path in files if path.is_relative_to(project / "src")}
    assert {path for path in code if not path.endswith("__init__.py")} == {
        dep for dep in DAG[name]["deps"] if dep.startswith("src/")
    }


@pytest.mark.parametrize("name", DAG)
def test_requirements_are_those_that_it_loads(name: str, audit: Path) -> None:
    """A package that can change a result is pinned in a file that the stage depends on; a linter is in none."""
    pinned = {package.lower() for file in requirements(name) for package in pins.read(file)}
    assert "numpy" in packages(audit, name)
    assert packages(audit, name) - pinned <= CANNOT_CHANGE_A_RESULT


@pytest.mark.parametrize("name", DAG)
def test_stages_without_torch_do_not_import_it(name: str, audit: Path) -> None:
    """Directly or by way of a library that is built on it."""
    assert ("torch" in packages(audit, name)) == (name in TORCH)
    assert (runner.COMPUTES in requirements(name)) == (name in TORCH)


@pytest.mark.usefixtures("folder")
def test_params_are_those_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen while the stages run. Of `images`, only the resolution counts: where pixels are kept changes no result."""
    read = set[str]()

    class Watched:
        """A section that notes which of its keys are read."""

        def __init__(self, section: params.Section) -> None:
            self.section = section

        def __getattr__(self, key: str) -> object:
            read.add(f"images.{key}")
            return getattr(self.section, key)

    def load(section: str, model: type[params.AnySection], real: Any = params.load) -> Any:
        if section == "images":
            return Watched(real(section, model))
        read.add(section)
        return real(section, model)

    def models(real: Any = params.models) -> list[str]:
        read.add("models")
        names: list[str] = real()
        return names

    monkeypatch.setattr(params, "load", load)
    monkeypatch.setattr(params, "models", models)
    found = {}
    for name in DAG:
        read.clear()
        stage(name)
        settled = {"run"} if name in TORCH else set()  # by determinism.settle, before the stage
        found[name] = (read - {"images.memory"}) | settled
    assert found == {name: set(own["params"]) for name, own in DAG.items()}


@pytest.mark.parametrize("name", DAG)
def test_nothing_undeclared_is_read_or_written(name: str, rebuilt: Path, audit: Path) -> None:
    """By the stage when DVC ran it, under Python's audit hook, in every process of the stage."""
    own = touched(audit, name, rebuilt)
    assert ("read", "params.yaml") in own

    declared = DAG[name]
    written = [*(declared.get("outs") or []), *_names(declared.get("metrics")), *_names(declared.get("plots"))]
    may_write = [*written, ".darkroom"]
    may_read = [*declared["deps"], "params.yaml", "dvc.yaml", "dvc.lock", *may_write]
    for how, path in sorted(own):
        allowed = may_read if how == "read" else may_write
        code = how == "read" and path.startswith("src/") and path.endswith("__init__.py")  # which holds none
        assert code or _is_under(_final(path), allowed), f"{name} {how}s {path}"
    made = {_final(path) for how, path in own if how == "write"}
    assert not [out for out in written if not any(path == out or path.startswith(f"{out}/") for path in made)]


def _names(entries: list[str | dict[str, object]] | None) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries or []]


def _final(path: str) -> str:
    """The name that a partial file or folder is to have."""
    parts = path.split("/")
    return "/".join(part[1:].removesuffix(".partial") if part.endswith(".partial") else part for part in parts)


def _is_under(path: str, allowed: list[str]) -> bool:
    """Whether `path` is one of `allowed`, lies in one, or is a folder on the way to one (or compiled code)."""
    return "__pycache__" in path or any(
        path == one or path.startswith(f"{one}/") or one.startswith(f"{path}/") or path == "." for one in allowed
    )


@pytest.mark.fast
@pytest.mark.parametrize("name", DAG)
def test_no_stage_imports_a_stage(name: str) -> None:
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse((SOURCE / f"stages/{name}.py").read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported
    assert not [module for module in imported if "stages" in module.split(".")]
    deps = {Path(dep).stem for dep in DAG[name]["deps"] if dep.startswith("src/darkroom/stages/")}
    assert deps == {name}


@pytest.mark.fast
def test_packages_hold_no_code() -> None:
    """So that their `__init__.py` need not be dependencies: each is one sentence on what the package holds."""
    found = list(SOURCE.rglob("__init__.py"))
    assert len(found) > 5
    for path in found:
        assert len(ast.parse(path.read_text()).body) == 1
        assert ast.get_docstring(ast.parse(path.read_text()))


def test_a_package_that_can_change_results_runs_the_stages_that_load_it(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another matplotlib draws again and trains nothing, another torch trains, another linter does nothing."""
    monkeypatch.chdir(copy)

    def stale_after(file: str, pin: str) -> set[str]:
        path = copy / file
        before = path.read_text()
        path.write_text(before.replace(pin, "0.0.1", 1))
        assert path.read_text() != before
        found = set(json.loads(run("dvc", "status", "--json", cwd=copy))) & set(DAG)
        path.write_text(before)
        return found

    figures, data, models = (pins.read(name) for name in ("figures", "data", "models"))
    draws = {"split", "stats", "evaluate", "tsne"}
    assert stale_after("requirements/figures.txt", figures["matplotlib"]) == draws
    assert stale_after("requirements/models.txt", models["torch"]) == TORCH
    assert stale_after("requirements/data.txt", data["pillow"]) == set(DAG)
    shutil.copyfile(ROOT / "requirements.txt", copy / "requirements.txt")
    assert stale_after("requirements.txt", "0.17.6") == set()


def test_nothing_is_left_to_do(copy: Path) -> None:
    assert "Data and pipelines are up to date." in run("dvc", "status", cwd=copy)
    assert run("git", "status", "--porcelain", cwd=copy) == ""


def test_dvc_shows_and_compares(copy: Path) -> None:
    assert "evaluate.json" in run("dvc", "metrics", "show", cwd=copy)
    assert "train_finetune" in run("dvc", "dag", cwd=copy)
    run("dvc", "plots", "show", "-o", "shown", cwd=copy)
    page = (copy / "shown/index.html").read_text()
    for title in (
        "Images of each class and split",
        "Confusion on the test images",
        "t-SNE of the penultimate features",
    ):
        assert title in page
