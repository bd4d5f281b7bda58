"""What it costs when nothing is to be done: `dvc repro` against `dvc status`, and `darkroom --help`.

    python benchmarks/overhead.py [--rounds 10] [--project .]

In this project, whose results must be built, and in an empty project of a single stage, which shows how much of it is DVC's. A
single round is a trial: nothing is written.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

import common
from darkroom.system import git

SINGLE = "stages:\n  only:\n    cmd: echo > out\n    outs: [out]\n"


def main() -> None:
    """Print the table, and write it to overhead.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--project", type=Path, default=common.ROOT, help="a project whose results are built")
    options = parser.parse_args()
    refuse_unbuilt(options.project)
    with tempfile.TemporaryDirectory() as temporary:
        single = make_single(Path(temporary))
        projects = {"this project": options.project, "a project of one stage": single}
        header = ["where", "`dvc repro`, nothing to do", "`dvc status`", "ratio: median (range)"]
        text = common.table(header, rows(projects, options.rounds))
    helps = [seconds("darkroom", "--help", cwd=options.project) for _ in range(options.rounds)]
    text += f"\n`darkroom --help`: {median(helps):.2f} s ({min(helps):.2f}-{max(helps):.2f}).\n"
    text += f"\nn = {options.rounds}. {common.here('dvc')}. `python benchmarks/overhead.py --rounds {options.rounds}`\n"
    common.publish(text, options.results / "overhead.md" if options.rounds > 1 else None)


def refuse_unbuilt(project: Path) -> None:
    """Exit if `dvc repro` would run a stage of `project`: that takes minutes, and is not what is measured."""
    status = subprocess.run(
        common.command("dvc", "status"),
        cwd=project,
        capture_output=True,
        text=True,
        env=common.variables(),
        check=False,
    )
    if status.returncode or "up to date" not in status.stdout:
        sys.exit(f"the results of {project} are not built: run `make` first\n{status.stderr}")


def make_single(project: Path) -> Path:
    """A built project of one stage that does nothing."""
    (project / "dvc.yaml").write_text(SINGLE, encoding="utf-8")
    git.read("init", "--quiet", cwd=project)
    common.run_dvc("init", "--quiet", cwd=project)
    common.run_dvc("repro", "--quiet", cwd=project)
    return project


def rows(projects: Mapping[str, Path], rounds: int) -> Iterator[list[str]]:
    """A row per project. Each round times both commands, one after the other."""
    for name, project in projects.items():
        pairs = [(seconds("dvc", "repro", cwd=project), seconds("dvc", "status", cwd=project)) for _ in range(rounds)]
        repro, status = (median(times) for times in zip(*pairs, strict=True))
        yield [name, f"{repro:.2f} s", f"{status:.2f} s", common.spread(before / after for before, after in pairs)]


def seconds(program: str, *arguments: str, cwd: Path) -> float:
    """How long a command takes. Exit if it fails, or if DVC runs a stage."""
    started = time.perf_counter()
    done = subprocess.run(
        common.command(program, *arguments),
        cwd=cwd,
        env=common.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    taken = time.perf_counter() - started
    if done.returncode or "Running stage" in done.stdout:
        sys.exit(f"{program} {' '.join(arguments)} failed or ran a stage in {cwd}:\n{done.stdout}{done.stderr}")
    return taken


if __name__ == "__main__":
    main()
