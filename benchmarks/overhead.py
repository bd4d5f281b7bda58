"""What it costs when nothing is to be done: `dvc repro` against `dvc status`, and `darkroom --help`.

    python benchmarks/overhead.py [--rounds 10]

In this project, whose results must be built, and in an empty one of a single stage, which shows how much is DVC's own.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from growth import ROOT

from darkroom.system import environment, files

SINGLE = "stages:\n  only:\n    cmd: echo > out\n    outs: [out]\n"


def main() -> None:
    """Print the table, and write it to benchmarks/results/overhead.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        single = Path(temporary)
        (single / "dvc.yaml").write_text(SINGLE)
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "repro", "-q"]):
            subprocess.run(command, cwd=single, check=True)
        text = "\n".join(table({"this project": ROOT, "a project of one stage": single}, options.rounds)) + "\n"
    print(text)
    if options.rounds > 1:
        files.write_bytes(ROOT / "benchmarks/results/overhead.md", text.encode())


def table(projects: dict[str, Path], rounds: int) -> Iterator[str]:
    """Markdown."""
    yield "| where | `dvc repro`, nothing to do | `dvc status` | ratio: median (range) |"
    yield "|---|---:|---:|---:|"
    for name, project in projects.items():
        pairs = [(seconds("dvc", "repro", cwd=project), seconds("dvc", "status", cwd=project)) for _ in range(rounds)]
        repro, status = (statistics.median(own) for own in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        yield f"| {name} | {repro:.2f} s | {status:.2f} s | {spread} |"
    helps = sorted(seconds("darkroom", "--help", cwd=ROOT) for _ in range(rounds))
    yield f"\n`darkroom --help`: {statistics.median(helps):.2f} s ({helps[0]:.2f}-{helps[-1]:.2f})."
    yield (
        f"\nn = {rounds}. {environment.cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"dvc {version('dvc')}. `python benchmarks/overhead.py --rounds {rounds}`"
    )


def seconds(*command: str, cwd: Path) -> float:
    """How long a command of this environment takes."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode or (command[1] == "repro" and "Running stage" in done.stdout):
        sys.exit(f"{' '.join(command)} had something to do, or failed, in {cwd}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
