"""Real images, and real Git + DVC projects in temporary folders.

Projects that take long to build are built once for all workers of pytest-xdist (`build_once`). Tests that change one take a copy.
"""

import contextlib
import csv
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import filelock
import pytest
import yaml

from darkroom.system import determinism, inputs
from darkroom.system.params import Run

RUN = Run(seed=1, threads=1, shards=2, mode="portable", device="cpu", precision="float32")
os.environ["DARKROOM_WORKERS"] = "1"  # two tests run at a time; test_workers.py has more
determinism.prepare(RUN)  # before anything imports torch or NumPy
# A shell makes its background jobs ignore interrupts, and the processes that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from darkroom import cli  # noqa: E402
from darkroom.data import demo  # noqa: E402
from darkroom.data.tracked import is_demo  # noqa: E402

ROOT = Path(__file__).parent.parent
# Files with the tests that take longest.
LONG = {f"test_{name}" for name in ("users_project", "workers", "updates", "docs", "crossval", "merge")}
LONGEST = 900  # seconds that a command of a test may take: one that waits for a person must not hold up all others
STAGE = ROOT / "src/darkroom"  # `python STAGE NAME` runs a stage
TRAVELS = [
    "dvc.yaml",
    "params.yaml",
    "src",
    ".dvc/plots",
    ".dvc/.gitignore",
    ".gitignore",
    ".gitattributes",
    "weights",
    "requirements",
    "data/groups.csv",
    "data/sides.csv",
]

PARAMS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("params.yaml").read_text())
DVC_CONFIG = (
    "[core]\n    analytics = false\n    check_update = false\n"  # without the project's remote, which no test may reach
)

# Runs when Python starts, in every process of a stage that DVC runs. Each path that is opened, listed, linked, renamed or
# removed is written to AUDIT/STAGE.log, with how; a read of a file that does not exist reads nothing. When the stage ends, the
# modules that it has loaded are written to AUDIT/STAGE.json.
CUSTOMIZE = """
import atexit, json, os, sys
if os.environ.get("AUDIT") and os.environ.get("DVC_STAGE"):
    start = os.path.join(os.environ["AUDIT"], os.environ["DVC_STAGE"])
    log = os.open(start + ".log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    def hook(event, args):
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            note("write" if writes else "read", args[0])
        elif event in ("os.listdir", "os.scandir"):
            note("read", args[0] or ".")
        elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.utime"):
            note("write", args[0], args[-1])
        elif event in ("os.rename", "os.link", "os.symlink"):
            note("write" if event == "os.rename" else "read", args[0])
            note("write", args[1])
    def note(how, path, folder=-1):
        if isinstance(path, (str, bytes, os.PathLike)):
            path = os.fsdecode(path)
            if isinstance(folder, int) and folder >= 0 and not os.path.isabs(path):
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
            if how == "write" or os.path.exists(path):
                os.write(log, f"{how} {os.path.abspath(path)}\\n".encode("utf-8", "surrogateescape"))
    def tell():
        files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
        with open(start + ".json", "w") as stream:
            json.dump(files, stream)
    atexit.register(tell)
    sys.addaudithook(hook)
"""


class RefusedProcess(subprocess.Popen[Any]):
    """Stands in for `subprocess.Popen` in tests that are marked `fast`."""

    def __init__(self, *arguments: Any, **_: Any) -> None:
        raise AssertionError(f"a test marked fast starts no process: {arguments}")


@pytest.fixture(autouse=True)
def no_process_if_fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold tests that are marked `fast` to what the mark says."""
    if request.node.get_closest_marker("fast"):
        monkeypatch.setattr(subprocess, "Popen", RefusedProcess)


@pytest.hookimpl(trylast=True)  # after `-m` and `-k`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of the product in a project that has other images than the demo, and put the tests into an order.

    Of two workers, each begins with one half of them. The first half has all that need the rebuilt project, so that one worker
    builds it while the other runs the second half. In both, the longest come first: what is left at the end is short.
    """
    if not is_demo(ROOT):
        reason = "about Darkroom's own README, pages and results; data/raw.dvc does not track the demo here"
        for item in items:
            if item.get_closest_marker("product"):
                item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: 2 if item.get_closest_marker("fast") else item.path.stem not in LONG)
    needing = [item for item in items if "rebuilt" in getattr(item, "fixturenames", ())]
    others = [item for item in items if item not in needing]
    begin = len(others) - max(len(items) // 2 - len(needing), 0)  # from here on, they fill up the first half
    items[:] = [*needing, *others[begin:], *others[:begin]]


def surroundings(**extra: str) -> dict[str, str]:
    """Variables for a command: `python` and `dvc` are those that run the tests; PYTHONPATH is prepended to."""
    here = str(Path(sys.executable).parent)
    if "PYTHONPATH" in extra and "PYTHONPATH" in os.environ:
        extra["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    return {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200", **extra}


def run(*command: str | Path, cwd: Path, code: int = 0, **extra: str) -> str:
    """What `command` prints, both streams; it must end with `code` in time. `extra` are variables of its environment."""
    done = subprocess.run(
        ["timeout", str(LONGEST), *(str(word) for word in command)],  # ends what it has started, too; exit code 124
        cwd=cwd,
        env=surroundings(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def darkroom(*words: str | Path, cwd: Path, code: int = 0) -> str:
    """What `darkroom WORDS` prints, both streams; it must end with `code`. It runs in this process, without Python's start.

    What other processes print is not in it.
    """
    printed = io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        mock.patch.object(sys, "argv", ["darkroom", *map(str, words)]),
    ):
        try:
            cli.main()
            ended: object = 0
        except SystemExit as exit_:
            ended = exit_.code or 0
    assert ended == code, f"darkroom {words} ended with {ended}:\n{printed.getvalue()}"
    return printed.getvalue()


def json_in(printed: str) -> Any:
    """The JSON with which a command's output begins. What the command says on standard error may follow."""
    return json.JSONDecoder().raw_decode(printed)[0]


def stage(name: str) -> None:
    """Run the stage `name` in this process and in the current folder."""
    importlib.import_module(f"darkroom.stages.{name}").main()


def wait_until_none(left: Callable[[], list[Path]]) -> None:
    """Wait, for 30 seconds at most, until `left` finds none: a busy machine is slow to end processes."""
    patience = time.monotonic() + 30
    while found := left():
        assert time.monotonic() < patience, found
        time.sleep(0.1)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, each as column -> text."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def set_params(project: Path, changes: Mapping[str, Mapping[str, object]]) -> None:
    """Change keys of params.yaml."""
    path = project / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    for section, keys in changes.items():
        tree[section].update(keys)
    path.write_text(yaml.safe_dump(tree))


def pinned(tree: Mapping[str, Any], values: Mapping[str, Any] = PARAMS) -> dict[str, Any]:
    """The params `tree` with those of tests/params.yaml, so that no test depends on what a project has set."""
    inner = {key: pinned(tree.get(key) or {}, value) for key, value in values.items() if isinstance(value, Mapping)}
    return {**tree, **values, **inner}


def pin_params(project: Path) -> None:
    """Give the keys that are in tests/params.yaml the values that they have there."""
    path = project / "params.yaml"
    path.write_text(yaml.safe_dump(pinned(yaml.safe_load(path.read_text()))))


def vouch(project: Path, changes: Mapping[str, Mapping[str, object]] | None = None) -> None:
    """Have dvc.lock say that what lies in `project` was built like this, with `changes` of keys of params.yaml."""
    set_params(project, changes or {})
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    for stage in lock["stages"].values():
        for section, keys in (changes or {}).items():
            if section in (used := stage.get("params", {}).get("params.yaml", {})):
                used[section].update(keys)
    metrics = project / "metrics/evaluate.json"
    scores = read_json(metrics)
    for name, of_model in scores.items():
        if stage := lock["stages"].get(f"train_{name}"):
            deps = {dep["path"]: dep["md5"] for dep in stage["deps"]}
            of_model["made_from"] = inputs.digest(deps, stage["params"]["params.yaml"])
    metrics.write_text(json.dumps(scores, sort_keys=True, indent=2))
    for stage in lock["stages"].values():
        for file in [*stage.get("deps", []), *stage["outs"]]:
            if (project / file["path"]).is_file():
                file["md5"] = hashlib.md5((project / file["path"]).read_bytes()).hexdigest()
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))


def write_digits(folder: Path, each: int, classes: int = 3) -> None:
    """scikit-learn's scanned digits as PNG files, `each` a class."""
    digits = load_digits()
    for label in range(classes):
        (folder / f"digit-{label}").mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(digits.images[digits.target == label][:each]):
            pixels = (picture * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"digit-{label}" / f"{index:03d}.png")


def write_cells(folder: Path, each: int) -> None:
    """A slice of the demo, `each` a class. The first of each is named 005.png, as the documentation has it."""
    demo.lay_out(folder)
    for kind in folder.iterdir():
        first, *rest = sorted(kind.iterdir())
        first.rename(kind / "005.png")
        for path in rest[each - 1 :]:
            path.unlink()


def copy_project(target: Path) -> None:
    """The project's own files, without data and results."""
    for name in TRAVELS:
        source = ROOT / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, target / name)
    (target / ".dvc/config").write_text(DVC_CONFIG)


def copy_of(project: Path, target: Path) -> Path:
    """A copy of a built project with its Git history and DVC's cache."""
    return Path(shutil.copytree(project, target, symlinks=True))


def clone_of(project: Path, target: Path) -> Path:
    """A Git clone of `project` in which one can commit, without data and without DVC's cache."""
    run("git", "clone", "-q", project, target, cwd=project)
    sign(target)
    return target


def sign(project: Path) -> None:
    """Give commits an author."""
    with (project / ".git/config").open("a") as stream:
        stream.write("[user]\n\temail = tests@example.org\n\tname = Tests\n")


def commit(project: Path, message: str) -> None:
    """Commit all that is there."""
    run("git", "add", "-A", cwd=project)
    run("git", "commit", "-q", "-m", message, cwd=project)


def make_project(target: Path, write_raw: Callable[[Path], None]) -> Path:
    """A committed Git + DVC project with small params and its own images, in a folder with a space in its name."""
    copy_project(target)
    pin_params(target)
    write_raw(target / "data" / "raw")
    run("git", "init", "-q", "-b", "main", cwd=target)
    sign(target)
    run("dvc", "add", "-q", "data/raw", cwd=target)
    commit(target, "A small project")
    return target


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """The folder that `build` fills. The first worker that asks for it builds it, and the others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder / "done"
    with filelock.FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failed build left
            folder.mkdir()
            build(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of solar cells whose whole DAG was run and committed. Tests only read it, and run no DVC in it."""

    def build(folder: Path) -> None:
        (folder / "audit").mkdir()
        (folder / "sitecustomize.py").write_text(CUSTOMIZE)
        project = make_project(folder / "solar cells", lambda raw: write_cells(raw, 60))
        run("dvc", "repro", cwd=project, PYTHONPATH=str(folder), AUDIT=str(folder / "audit"))
        commit(project, "Results")

    return build_once(tmp_path_factory, "rebuilt", build) / "solar cells"


@pytest.fixture(scope="session")
def audit(rebuilt: Path) -> Path:
    """What the stages of `rebuilt` did while they ran: see CUSTOMIZE."""
    return rebuilt.parent / "audit"


@pytest.fixture
def copy(rebuilt: Path, tmp_path: Path) -> Path:
    """A copy of `rebuilt` to work in."""
    return copy_of(rebuilt, tmp_path / "a copy")


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Git + DVC project of digits, committed, of which the stages split and stats were run."""

    def build(folder: Path) -> None:
        project = make_project(folder / "digits", lambda raw: write_digits(raw, 60))
        run("dvc", "repro", "-q", "stats", cwd=project)
        commit(project, "Split and measured")

    return build_once(tmp_path_factory, "measured", build) / "digits"


@pytest.fixture
def digits(measured: Path, tmp_path: Path) -> Path:
    """A copy of `measured` to work in."""
    return copy_of(measured, tmp_path / "a project")


@pytest.fixture(scope="session")
def trained(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of digits with its first three stages alone and the model scratch, committed: what rebuilds in seconds."""

    def build(folder: Path) -> None:
        project = copy_of(measured, folder / "digits")
        dag = yaml.safe_load((project / "dvc.yaml").read_text())
        kept = ["split", "stats", "train_scratch"]
        stages = {name: dag["stages"][name] for name in kept}
        (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        params = yaml.safe_load((project / "params.yaml").read_text())
        (project / "params.yaml").write_text(yaml.safe_dump({name: params[name] for name in (*kept, "run", "images")}))
        run("dvc", "repro", "-q", cwd=project)
        commit(project, "Three stages")

    return build_once(tmp_path_factory, "trained", build) / "digits"


@pytest.fixture
def small(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to work in."""
    return copy_of(trained, tmp_path / "a small project")


@pytest.fixture(scope="session")
def evaluated(measured: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of `trained` with the stage evaluate of its one model, committed."""

    def build(folder: Path) -> None:
        project = copy_of(trained, folder / "digits")
        dag, params = (yaml.safe_load((project / name).read_text()) for name in ("dvc.yaml", "params.yaml"))
        own = yaml.safe_load((measured / "dvc.yaml").read_text())["stages"]["evaluate"]
        dag["stages"]["evaluate"] = {**own, "deps": [path for path in own["deps"] if "finetune" not in path]}
        params |= {"models": ["scratch"], "evaluate": PARAMS["evaluate"]}
        (project / "dvc.yaml").write_text(yaml.safe_dump(dag, sort_keys=False))
        (project / "params.yaml").write_text(yaml.safe_dump(params))
        run("dvc", "repro", "-q", cwd=project)
        commit(project, "One model, evaluated")

    return build_once(tmp_path_factory, "evaluated", build) / "digits"


@pytest.fixture
def one_model(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of `evaluated` to work in."""
    return copy_of(evaluated, tmp_path / "a project of one model")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the project's params and a few digits, without Git and DVC, as the current one: for single stages."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    pin_params(tmp_path)
    write_digits(tmp_path / "data" / "raw", 30)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def parted(folder: Path) -> Path:
    """`folder` after the stages split and stats."""
    stage("split")
    stage("stats")
    return folder
