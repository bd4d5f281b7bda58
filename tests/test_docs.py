"""The documentation is true: its commands run, its numbers are those of metrics/, its files, commands and params exist."""

import importlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from scipy import stats

from conftest import ROOT, copy_of, darkroom, run
from darkroom import cli, runner
from darkroom.report import summary
from darkroom.system import params
from darkroom.system.trees import value_at

pytestmark = pytest.mark.product

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NULL = {"split.group", "split.fold", "train_finetune.fingerprint"}  # params whose value is null, or that are absent
FILES = {".py", ".csv", ".json", ".png", ".txt", ".md"}
# Pages whose commands are run, in this order, in one project.
RUN = ["README.md", "docs/how-to/experiments.md", "docs/how-to/changing-data.md", "docs/how-to/label-next.md"]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [block for found, block in re.findall(r"```(\w*)\n(.*?)```", text, re.S) if found == language]


def commands(page: str) -> list[str]:
    """The lines of the shell blocks of a page."""
    return [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.fast
def test_the_results_table_is_that_of_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert summary.as_text() in (ROOT / "docs/get-started.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    of_models = json.loads((ROOT / "metrics/evaluate.json").read_text())
    for name in ("scratch", "finetune"):
        accuracy = of_models[name]["merged_accuracy"]
        value, low, high = (f"{100 * accuracy[key]:.1f}" for key in ("value", "low", "high"))
        assert re.search(rf"{value} % \({low} to\s{high}\)", readme), name
        seeds = json.loads((ROOT / "metrics/seeds.json").read_text())["models"][name]["merged_accuracy"]
        mean, half = seeds["mean"], stats.sem(seeds["values"]) * stats.t.ppf(0.975, len(seeds["values"]) - 1)
        assert f"{100 * mean:.1f} % ({100 * (mean - half):.1f} to {100 * (mean + half):.1f})" in readme, name


@pytest.mark.fast
def test_developing_names_every_module_and_what_runs_again_if_it_changes() -> None:
    text = (ROOT / "docs/developing.md").read_text(encoding="utf-8")
    source = ROOT / "src/darkroom"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if path.name != "__init__.py"}
    assert modules <= set(modules_in_tree(text))
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for module in modules - {f"stages/{name}.py" for name in stages}:
        listed = {name for name in stages if f"src/darkroom/{module}" in stages[name]["deps"]}
        assert what_runs_again(text, module, set(stages)) == listed, module


def modules_in_tree(text: str) -> Iterator[str]:
    """The modules that the tree of developing.md shows, such as data/images.py."""
    folder = ""
    for line in text.partition("src/darkroom/\n")[2].partition("```")[0].splitlines():
        name = line.split()[0] if line else ""
        if name.endswith("/"):
            folder = name
        elif name:
            yield name if line.startswith(4 * " " + name) else folder + name


def what_runs_again(text: str, module: str, stages: set[str]) -> set[str]:
    """What the table of developing.md says of a module: in the row that names it, or else in that of its package."""
    package, _, file = module.rpartition("/")
    rows = re.findall(r"^\| (.*) \| (.*) \|$", text.partition("| what you change |")[2].partition("\n\n")[0], re.M)
    of_package = [said for what, said in rows if {f"`{package}`", f"`{package}/`"} & set(re.findall(r"`[^`]*`", what))]
    of_module = [
        said for what, said in rows if re.search(rf"`{package}/(?:[^;/]*`)?{re.escape(file)}`|`{module}`", what)
    ]
    [said] = of_module or of_package
    every = stages - set(re.findall(r"every stage but `(\w+)`", said)) if "every stage" in said else set()
    trainings = {name for name in stages if name.startswith("train_")} if "both trainings" in said else set()
    return every | trainings | (set() if every else set(re.findall(r"`(\w+)`", said)))


@pytest.mark.fast
def test_the_measured_rows_are_those_of_the_benches() -> None:
    measured = "".join(path.read_text() for path in (ROOT / "benchmarks/results").glob("*.md"))
    rows = [row for page in PAGES for row in re.findall(r"^\|.* \([\d.]+-[\d.]+\).*\|$", page.read_text(), re.M)]
    assert len(rows) >= 6
    for row in rows:
        assert row in measured


@pytest.mark.fast
def test_the_reference_has_every_param_with_the_range_that_is_checked() -> None:
    """Those of both trainings stand there once, as train_scratch."""
    page = (ROOT / "docs/reference/params.md").read_text(encoding="utf-8")
    values = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|", page, re.M))
    models: dict[str, type[params.Section]] = {"run": params.Run, "images": params.Images}
    models |= {name: importlib.import_module(f"darkroom.stages.{name}").Params for name in runner.names()}
    checked = {key: schema for name, model in models.items() for key, schema in ranges(name, model.model_json_schema())}
    for key, schema in checked.items():
        row = key if key in values else key.replace("train_finetune.", "train_scratch.")
        assert said(schema) in values[row], key
    assert values.keys() <= checked.keys() | {"split.ratio"}


def ranges(path: str, schema: dict[str, Any], definitions: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """The schema of each key of a section, by its dotted name. Those of the ratio are one row."""
    definitions = definitions or schema.get("$defs", {})
    for name, of in schema["properties"].items():
        inner = definitions.get(of.get("$ref", "").rpartition("/")[2])
        if inner is None:
            yield f"{path}.{name}", of
        elif name != "ratio":
            yield from ranges(f"{path}.{name}", inner, definitions)


def said(schema: dict[str, Any]) -> str:
    """A range as the page says it; "" where a sentence does."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "boolean":
        return "true, false"
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if below is not None and schema["type"] == "integer":
        high = below - 1
    first = f"above {above}" if above is not None else "" if low is None else f"{low}"
    if high is not None:
        return f"{first}, up to {high}" if above is not None else f"{first} to {high}"
    if below is not None:
        return f"{first} to below {below}"
    return first if above is not None or low is None else f"{first} or more"


@pytest.mark.fast
def test_the_reference_has_every_command() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    commands_of_cli = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    names = commands_of_cli.keys() - set(runner.names())
    assert len(names) > 20
    assert names == {name for name in names if f"`darkroom {name}" in page}


def test_commands_run(rebuilt: Path, tmp_path: Path) -> None:
    """In the order of the pages, on small data; `make` and `make test` are CI itself."""
    project = copy_of(rebuilt, tmp_path / "a reader's")
    shutil.copytree(rebuilt / "data/raw", tmp_path / "my images")
    (tmp_path / "my images/mono-defective/notes.txt").touch()
    assert all(len(commands(page)) >= 3 for page in RUN)
    for line in (line for page in RUN for line in commands(page)):
        shorter = re.sub("epochs=(25|4)", "epochs=2", line).replace("resolution=512", "resolution=64")
        run("bash", "-ec", re.sub("/path/to/(your|new)/images", "'../my images'", shorter), cwd=project)
    assert run("git", "status", "--porcelain", "--untracked-files=no", cwd=project) == ""


def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    """With the tables of the benchmarks, and no link that leads nowhere."""
    pytest.importorskip("mkdocs", reason="MkDocs is not installed: requirements/extras/docs.txt")
    printed = run("mkdocs", "build", "--strict", "--site-dir", tmp_path, cwd=ROOT, NO_MKDOCS_2_WARNING="1")
    assert "WARNING" not in printed
    assert (tmp_path / "benchmarks/results/workers/index.html").exists()
    assert 'src="../plots/confusion.png"' in (tmp_path / "get-started/index.html").read_text(encoding="utf-8")
    assert (tmp_path / "plots/confusion.png").exists()
    page = (tmp_path / "explanation/speed/index.html").read_text(encoding="utf-8")
    assert 'href="../../benchmarks/results/growth/"' in page
    assert ".py" not in "".join(re.findall(r'href="([^"]+)"', page))


@pytest.mark.fast
@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in PAGES])
def test_what_a_page_names_exists(page: str, tmp_path: Path) -> None:
    """Files that it links to, commands of `darkroom`, and params, in code."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / link).exists(), link
    if "decisions" in page:
        return  # they tell history
    known = set(re.findall(r"^\W*([a-z][a-z_-]*) ", darkroom("--help", cwd=tmp_path), re.M))
    assert {"compare", "train_scratch"} <= known
    assert set(re.findall(r"(?:^|`)darkroom ([a-z][a-z_-]*)", text, re.M)) <= known
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in re.findall(rf"`((?:{'|'.join(tree)})\.[a-z_.]+)(?:[:=][^`]*)?`", text):
        assert value_at(tree, key) is not None or key in NULL or Path(key).suffix in FILES, key
