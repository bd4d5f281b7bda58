"""What must not show in a result, and what a stage may touch."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, clone_of, run, set_params, write_digits
from darkroom.system import environment

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Runs at Python's start in every process of a stage: each path that is opened, listed, linked, renamed or removed is written
# to the file that AUDIT names, with how. A read of what is not there reads nothing.
CUSTOMIZE = """
import os, sys
if os.environ.get("AUDIT"):
    log = os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
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
    sys.addaudithook(hook)
"""


@pytest.fixture
def customize(tmp_path: Path) -> str:
    """A folder for PYTHONPATH."""
    (tmp_path / "customize").mkdir()
    (tmp_path / "customize/sitecustomize.py").write_text(CUSTOMIZE)
    return str(tmp_path / "customize")


def outs(lock: dict) -> dict[str, str]:
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def test_an_experiment_in_a_temporary_copy_gives_the_same_bytes(rebuilt: Path, tmp_path: Path) -> None:
    """What `dvc exp run --temp` makes anew in its own folder, against the work tree's. Only evaluate's param differs."""
    clone = clone_of(rebuilt, tmp_path / "clone")
    run("dvc", "remote", "add", "-q", "--local", "-d", "source", rebuilt / ".dvc/cache", cwd=clone)
    run("dvc", "pull", "-q", "data/raw.dvc", cwd=clone)
    printed = run("dvc", "exp", "run", "--temp", "--force", "-n", "other", "-S", "evaluate.bins=14", cwd=clone)
    assert all(f"Running stage '{name}'" in printed for name in STAGES)
    reference = run("git", "for-each-ref", "--format=%(refname)", "refs/exps", cwd=clone).splitlines()
    there = outs(
        yaml.safe_load(run("git", "show", f"{next(r for r in reference if r.endswith('/other'))}:dvc.lock", cwd=clone))
    )
    here = outs(yaml.safe_load((rebuilt / "dvc.lock").read_text()))
    own = {"metrics/evaluate.json", "plots/reliability.csv", "plots/reliability.png"}
    assert {path for path in here if here[path] != there[path]} == own


@pytest.mark.parametrize("name", STAGES)
def test_nothing_undeclared_is_read_or_written(name: str, rebuilt: Path, tmp_path: Path, customize: str) -> None:
    """Under Python's audit hook, in every process of the stage."""
    project = tmp_path / "project"
    shutil.copytree(rebuilt, project, symlinks=True, ignore=shutil.ignore_patterns("cache", "tmp"))
    log = tmp_path / "audit.log"
    run("python", "src/darkroom", name, cwd=project, PYTHONPATH=customize, AUDIT=str(log))
    touched = {tuple(line.split(" ", 1)) for line in log.read_text(errors="surrogateescape").splitlines()}
    own = {
        (how, Path(path).relative_to(project).as_posix()) for how, path in touched if Path(path).is_relative_to(project)
    }
    assert ("read", "params.yaml") in own

    declared = STAGES[name]
    written = [*(declared.get("outs") or []), *_names(declared.get("metrics")), *_names(declared.get("plots"))]
    notes = [Path(out).with_suffix(".json").as_posix() for out in written if out.endswith(".pth")]
    may_write = [*written, *notes, ".darkroom"]
    may_read = [*declared["deps"], "params.yaml", "dvc.lock", *may_write]
    for how, path in sorted(own):
        allowed = may_read if how == "read" else may_write
        assert _is_under(_final(path), allowed), f"{name} {how}s {path}"
    assert all(any(how == "write" and _is_under(_final(path), [out]) for how, path in own) for out in written)


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


def test_names_in_a_data_set_cannot_lead_out_of_the_outs(folder: Path) -> None:
    """Names that shells, paths, CSV, HTML and command lines might take for something else."""
    source = (folder / "data/raw/digit-0/000.png").read_bytes()
    evil = [
        "a..",
        "-rf",
        "$(touch pwned)",
        "`touch pwned`",
        "a\nb",
        "con:aux",
        "<b>&amp;",
        "%2e%2e%2fpwned",
        "~",
        "x" * 200,
    ]
    for index, name in enumerate(evil):
        label = folder / "data/raw" / name
        label.mkdir()
        for each in range(16):
            (label / f"{name[:9]}{each}.png").write_bytes(source + bytes([index, each]))
    write_digits(folder / "data/raw", 30)
    before = {path for path in folder.rglob("*") if "raw" in path.parts}
    set_params(folder, {"split": {"mode": "shuffle"}})
    run("python", ROOT / "src/darkroom", "split", cwd=folder)
    run("python", ROOT / "src/darkroom", "stats", cwd=folder)
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {
        path.relative_to(folder).as_posix() for path in before
    }
    places = ("data/split/", "metrics/", "plots/", ".darkroom/", "requirements/")
    own = {
        "data",
        "data/split",
        "data/raw",
        "data/manifest.csv",
        "metrics",
        "plots",
        ".darkroom",
        "requirements",
        "params.yaml",
    }
    assert {path for path in made if not path.startswith(places)} <= own
    assert {path for path in folder.rglob("*") if "raw" in path.parts} == before
    counts = json.loads((folder / "metrics/split.json").read_text())
    assert len(counts["train"]["classes"]) == 3 + len(evil)


def test_a_package_that_can_change_results_runs_the_stages_that_load_it(rebuilt: Path, tmp_path: Path) -> None:
    """Another matplotlib redraws and trains nothing, another torch trains, another linter does nothing."""
    clone = tmp_path / "clone"
    shutil.copytree(rebuilt, clone, symlinks=True)

    def stale_after(file: str, pin: str) -> set[str]:
        path = clone / file
        before = path.read_text()
        path.write_text(before.replace(pin, "0.0.1", 1))
        assert path.read_text() != before
        found = set(json.loads(run("dvc", "status", "--json", cwd=clone))) & set(STAGES)
        path.write_text(before)
        return found

    figures, data, models = (environment.pins(name) for name in ("figures", "data", "models"))
    assert stale_after("requirements/figures.txt", figures["matplotlib"]) == {"split", "stats", "evaluate", "tsne"}
    assert stale_after("requirements/models.txt", models["torch"]) == set(STAGES) - {"split", "stats"}
    assert stale_after("requirements/data.txt", data["pillow"]) == set(STAGES)
    shutil.copyfile(ROOT / "requirements.txt", clone / "requirements.txt")
    assert stale_after("requirements.txt", "0.17.6") == set()


def test_another_version_than_the_pinned_one_is_refused(folder: Path) -> None:
    """Its results would stand in dvc.lock as those of the pinned one."""
    path = folder / "requirements/data.txt"
    path.write_text(path.read_text().replace("pillow==13.0.0", "pillow==12.9.0"))
    printed = run("python", ROOT / "src/darkroom", "split", cwd=folder, code=2)
    assert "pillow is 13.0.0, but requirements/data.txt pins 12.9.0: run `make setup`" in printed
    for text, message in (("numpy >= 2", "pinned as package==version"), ("", "pins nothing"), ("\udcff", "damaged")):
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        assert message in run("python", ROOT / "src/darkroom", "split", cwd=folder, code=2)
    assert not (folder / "data/split").exists()


def test_a_short_soak(tmp_path: Path) -> None:
    """benchmarks/soak.py, which kills stages at random moments; in full also the others and `dvc repro` itself."""
    printed = run("python", ROOT / "benchmarks/soak.py", "--kills", "3", "split", "train_scratch", cwd=tmp_path)
    for target in ("split", "train_scratch"):
        row = next(line for line in printed.splitlines() if line.startswith(f"| {target} |"))
        kills, runs, _, redone, differences = map(int, row.split("|")[2:-1])
        assert (kills, redone, differences) == (3, 0, 0)
        assert runs >= 1
