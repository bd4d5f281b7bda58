"""The bytes of both models by the number of workers and machines, undisturbed, killed and resumed.

    python benchmarks/workers.py

The project is that of soak.py: a slice of the demo and small params, with four shards and one thread. "Two machines" are two
folders whose processes meet on loopback. Prints the first digits of the SHA-256 of each model, and writes workers.md.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import common
import soak
from darkroom.system import machine
from darkroom.system.parallel import cores

PORT = 29631
EPOCH = "epoch   2/"  # what a training has printed when it is killed


def main() -> None:
    """Print the table, and exit with 1 if two models of a column differ."""
    options = common.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="workers ") as temporary:
        reference = soak.make_reference(Path(temporary) / "reference", ["stats"])
        names = common.trainings(common.read_params(reference))
        rows = {how: [digest(train, reference, name) for name in names] for how, train in WAYS.items()}
    text = common.table(["trained by", *names], ([how, *digests] for how, digests in rows.items()), text=(0, 1, 2))
    command = f"`python benchmarks/workers.py`; {machine.cpu()}, {cores()} cores, 4 shards, 1 thread."
    common.publish(f"{text}\n{command}\n", options.results / "workers.md")
    sys.exit(any(len(set(column)) > 1 for column in zip(*rows.values(), strict=True)))


def digest(train: Callable[[str, Path], None], reference: Path, name: str) -> str:
    """The start of the hash of the model that `train` makes in a copy of `reference`."""
    with tempfile.TemporaryDirectory(prefix="workers ") as temporary:
        project = Path(shutil.copytree(reference, Path(temporary) / "project", symlinks=True))
        train(name, project)
        [found] = soak.contents(project, [f"models/{name.removeprefix('train_')}.pth"]).values()
    print(name, found[:12], flush=True)
    return found[:12]


def start(name: str, project: Path, **variables: str) -> "subprocess.Popen[str]":
    """A training under way."""
    return subprocess.Popen(
        common.command("python", "src/darkroom", name),
        cwd=project,
        env=common.variables() | {"PYTHONUNBUFFERED": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def undisturbed(workers: int) -> Callable[[str, Path], None]:
    """A training that comes to its end."""

    def train(name: str, project: Path) -> None:
        printed, _ = (process := start(name, project, DARKROOM_WORKERS=str(workers))).communicate()
        assert process.returncode == 0, printed

    return train


def killed(first: int, then: int, whole: bool) -> Callable[[str, Path], None]:
    """A training that is killed under one number of workers (all of it, or a worker alone) and goes on under another."""

    def train(name: str, project: Path) -> None:
        process = start(name, project, DARKROOM_WORKERS=str(first))
        assert process.stdout is not None
        assert any(EPOCH in line for line in process.stdout)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(process.pid if whole else int(children[-1]), signal.SIGKILL)
        printed, _ = process.communicate()
        assert whole or "a worker of this training is gone" in printed, printed
        undisturbed(then)(name, project)

    return train


def on_two_machines(workers: int) -> Callable[[str, Path], None]:
    """A training that a second folder joins."""

    def train(name: str, project: Path) -> None:
        other = Path(shutil.copytree(project, project.with_name("other"), symlinks=True))
        variables = {
            "NNODES": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(PORT),
            "DARKROOM_WORKERS": str(workers),
        }
        process = start(name, project, **variables)
        joined = subprocess.Popen(common.command("darkroom", "join", f"127.0.0.1:{PORT}"), cwd=other)
        printed, _ = process.communicate()
        joined.terminate()
        joined.wait()
        assert process.returncode == 0, printed

    return train


WAYS = {
    "1 worker": undisturbed(1),
    "2 workers": undisturbed(2),
    "4 workers": undisturbed(4),
    "2 workers, killed; then 4": killed(2, 4, whole=True),
    "4 workers, killed; then 1": killed(4, 1, whole=True),
    "2 workers, one of them killed; then 1": killed(2, 1, whole=False),
    "2 machines with 1 worker each": on_two_machines(1),
    "2 machines with 2 workers each": on_two_machines(2),
}

if __name__ == "__main__":
    main()
