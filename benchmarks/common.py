"""What the benchmarks share: projects to measure in, commands to time, medians, tables and the description of the machine."""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from darkroom.system import dvc, files, git, machine, params, pipeline

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ROOT / "benchmarks/contenders"
RESULTS = ROOT / "benchmarks/results"
# All that a project needs beside its images.
FILES = (
    "dvc.yaml",
    "params.yaml",
    "tune.yaml",
    "data/groups.csv",
    "data/sides.csv",
    ".gitignore",
    ".dvc/.gitignore",
    ".dvc/config",
)
FOLDERS = ("src/darkroom", "requirements", "weights", ".dvc/plots")
# Variables that change the speed of a training. Contenders do not inherit them from the shell.
OPENMP = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class Cost(NamedTuple):
    """What one run of a stage took.

    Attributes:
        seconds: Wall time.
        cpu_seconds: Of all its processes.
        peak: Of the largest of its processes, in MiB. The kernel gives no less than the peak of the benchmark that started it.
    """

    seconds: float
    cpu_seconds: float
    peak: float


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of the command line, with the option that every benchmark has.

    Args:
        description: The benchmark's docstring. The help shows its first line.
    """
    made = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    made.add_argument("--results", type=Path, default=RESULTS, help="the folder to write the table to")
    return made


def publish(text: str, path: Path | None) -> None:
    """Print a benchmark's result and, unless `path` is None, write it to this file."""
    print(text, end="")
    if path:
        files.write_bytes(path, text.encode())


def stages(project: Path = ROOT) -> dict[str, Any]:
    """The stages of the project's dvc.yaml, by name. Each stands after those that it depends on."""
    found: dict[str, Any] = yaml.safe_load((project / pipeline.PIPELINE).read_text(encoding="utf-8"))["stages"]
    return found


def read_params(project: Path = ROOT) -> dict[str, Any]:
    """The project's params.yaml, unchecked."""
    tree: dict[str, Any] = params.read(project / params.PARAMS)
    return tree


def change_params(project: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Change keys of the project's params.yaml. `changes` is section -> key -> value; the other keys stay."""
    tree = read_params(project)
    for section, keys in changes.items():
        tree[section] |= keys
    (project / params.PARAMS).write_text(yaml.safe_dump(tree), encoding="utf-8")


def trainings(tree: Mapping[str, Any]) -> list[str]:
    """The sections of a params.yaml that belong to the models of its list."""
    return [section for name in tree["models"] if (section := f"train_{name}") in tree]


def make_project(target: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Copy this project's code, params and settings to `target`, without images and results.

    Args:
        target: A folder, which may exist already.
        changes: Params to change (`change_params`).

    Returns:
        `target`. It is no Git repository yet (`make_repository`).
    """
    for name in FILES:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    change_params(target, changes or {})
    return target


def make_repository(project: Path) -> None:
    """Make a Git repository of `project`, track its images with DVC, and commit all of it."""
    git.read("init", "--quiet", "--initial-branch", "main", cwd=project)
    git.read("config", "user.name", "Benchmarks", cwd=project)
    git.read("config", "user.email", "benchmarks@example.org", cwd=project)
    run_dvc("add", "--quiet", "data/raw", cwd=project)
    commit(project, "A project to measure")


def commit(project: Path, message: str) -> None:
    """Commit everything that Git does not ignore."""
    git.read("add", "--all", cwd=project)
    git.read("commit", "--quiet", "--message", message, cwd=project)


def run_dvc(*arguments: str, cwd: Path) -> None:
    """Run `dvc ARGUMENTS` with this Python, and exit if it fails."""
    if code := dvc.call(*arguments, cwd=cwd):
        sys.exit(f"dvc {' '.join(arguments)} ended with {code} in {cwd}")


def command(program: str, *arguments: str) -> list[str]:
    """The command that runs `program` (python, dvc or darkroom) of the environment of this Python, activated or not."""
    programs = {
        "python": [sys.executable],
        "dvc": [sys.executable, "-m", "dvc"],
        "darkroom": [str(Path(sys.executable).with_name("darkroom"))],
    }
    return [*programs[program], *arguments]


def variables() -> dict[str, str]:
    """Environment variables with which `python3` in dvc.yaml is this Python. What it prints is not held back."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")]), "PYTHONUNBUFFERED": "1"}


def run_stage(name: str, project: Path) -> Cost:
    """Run one stage in a new process, as `dvc repro` does, and exit if it fails."""
    return cost_of(command("python", "src/darkroom", name), project)


def cost_of(words: Sequence[str], project: Path) -> Cost:
    """Run a command in a project and exit if it fails. The kernel counts its time and memory; what it prints goes to stderr."""
    started = time.perf_counter()
    process = subprocess.Popen(words, cwd=project, env=variables(), stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} failed in {project}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def contender_command(script: str, *arguments: object, python: str | Path = sys.executable) -> list[str]:
    """The command that runs a script of contenders/ by `python`."""
    return [str(python), "-W", "ignore", str(CONTENDERS / script), *map(str, arguments)]


def contender_variables(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables for a contender: our code can be imported, and of `OPENMP` only those of `extra` are set."""
    kept = {key: value for key, value in os.environ.items() if key not in OPENMP}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **(extra or {})}


def run_contender(
    script: str,
    *arguments: object,
    cwd: Path = ROOT,
    python: str | Path = sys.executable,
    extra: Mapping[str, str] | None = None,
) -> str:
    """What a script of contenders/ prints. Exit if it fails.

    Args:
        script: Its file name.
        arguments: Its arguments.
        cwd: The folder to run it in.
        python: The Python that runs it; fastai is in another environment than this one.
        extra: Environment variables to set.
    """
    done = subprocess.run(
        contender_command(script, *arguments, python=python),
        cwd=cwd,
        env=contender_variables(extra),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{script} {' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return done.stdout


def spread(values: Iterable[float], form: str = ".2f") -> str:
    """The median and, in brackets, the lowest and the highest value, each written by the format `form`."""
    found = sorted(values)
    return f"{statistics.median(found):{form}} ({found[0]:{form}}-{found[-1]:{form}})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text: Collection[int] = (0,)) -> str:
    """A Markdown table that ends with a newline. Columns are right-aligned, but for those whose indices are in `text`."""
    rule = "|".join("---" if index in text else "---:" for index in range(len(header)))
    return "".join([f"| {' | '.join(header)} |\n", f"|{rule}|\n", *(f"| {' | '.join(row)} |\n" for row in rows)])


def here(*packages: str) -> str:
    """This machine, the version of Python, and those of `packages`."""
    versions = [f"{name} {version(name)}" for name in packages]
    return ", ".join([machine.cpu(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}", *versions])


def version_in(python: Path, package: str) -> str:
    """The version of `package` in the environment of another Python."""
    question = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", question], capture_output=True, text=True, check=True).stdout.strip()
