"""`darkroom verify`: rebuild HEAD in a fresh clone from the raw images, and compare the outputs with dvc.lock byte for byte."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from darkroom.data import demo, tracked
from darkroom.data.layout import RAW
from darkroom.rebuild.difference import first_difference
from darkroom.system import dvc, files, git, lock, params, pipeline, rebuilt
from darkroom.system.errors import UserError
from darkroom.system.trees import value_at

# Environment variables on which no result may depend. With --set there are two builds, and each gets other values.
SURROUNDINGS = (
    {"LC_ALL": "POSIX", "TZ": "Pacific/Chatham", "PYTHONHASHSEED": "1"},
    {"LC_ALL": "C.UTF-8", "TZ": "America/St_Johns", "PYTHONHASHSEED": "2"},
)
METRICS = "metrics/evaluate.json"
TOOK = re.compile(r"(\w+) took ([\d.]+) s and at most ")  # the last line of a stage: see runner.py
LINKS = ("symlink,copy", "copy")  # how DVC puts files from its cache into the project


@dataclass(frozen=True)
class Row:
    """An output in the printed table. `difference` is empty if both builds have the same bytes."""

    stage: str
    output: str
    difference: str


@dataclass(frozen=True)
class Build:
    """A project whose stages were run.

    Attributes:
        root: The project's folder.
        stages: The stages of its dvc.lock by name, as far as its dvc.yaml has them.
        cache: The folder of DVC's cache, which has each output under its md5.
        seconds: Stage -> how long it took, if it has said so.
    """

    root: Path
    stages: dict[str, Any]
    cache: Path
    seconds: Mapping[str, float] = field(default_factory=dict)

    def outs(self, stage: str) -> dict[str, str]:
        """The md5 of each output of a stage, by path."""
        return lock.outs(self.stages.get(stage, {}))

    def content(self, path: str, md5: str) -> bytes | None:
        """The bytes of an output, or None if this machine does not have them. For a folder, DVC's list of its files."""
        candidates = [self.cache / "files/md5" / md5[:2] / md5[2:]]
        if not md5.endswith(".dir"):
            candidates.append(self.root / path)
        contents = (candidate.read_bytes() for candidate in candidates if candidate.is_file())
        return next((data for data in contents if hashlib.md5(data).hexdigest() == md5.removesuffix(".dir")), None)


def verify(changes: Sequence[str], report: Path | None = None) -> int:
    """Rebuild HEAD and print how its outputs compare. Return 0 if all are the same bytes, else 1.

    Args:
        changes: Changes of params, each as `section.key=value`. With changes, HEAD is built twice in different folders, and the
            two builds are compared, because dvc.lock has no results for changed params.
        report: A file to write what was found to, for `darkroom pr-report`.

    Raises:
        UserError: HEAD cannot be cloned or built, its images are missing, DVC cannot be used here, a change names no param, or
            `report` cannot be written or is asked for with changes.
    """
    if not params.PARAMS.exists():
        raise UserError(f"there is no {params.PARAMS} in {Path.cwd()}: run from the project's top folder")
    if report and changes:
        raise UserError("--report is about the committed results, and --set about other ones: leave one of the two out")
    head = dvc.commit("HEAD")
    changed = _changed(params.parse((git.show(head, str(params.PARAMS)) or b"{}").decode()), changes)
    cache = dvc.cache()  # before anything is cloned: a DVC that cannot be used is told at once
    reference = None if changes else Build(Path(), _locked(head), cache)
    if git.read("status", "--porcelain"):
        print("There are uncommitted changes. They are left out: HEAD is verified.")
    folder = Path(tempfile.mkdtemp(prefix="darkroom verify é "))
    same = False
    try:
        built = _build(folder / "first", head, changed if changes else None, SURROUNDINGS[0], LINKS[0])
        if reference is None:
            reference, built = built, _build(folder / "second", head, changed, SURROUNDINGS[1], LINKS[1])
        compared = f"two builds with {' '.join(changes)}" if changes else "a rebuild and dvc.lock"
        rows = list(compare_outs(reference, built))
        if report:
            _write(report, head, reference, built, rows)
        same = _report(reference, built, rows, compared)
    finally:
        if same or not (folder / "first").exists():
            shutil.rmtree(folder)
        else:
            print(f"The rebuilt project is kept in {folder}. Delete it when you no longer need it.")
    return 0 if same else 1


def _locked(head: str) -> dict[str, Any]:
    """The stages of dvc.lock in a commit, as far as its dvc.yaml has them.

    Raises:
        UserError: It has no dvc.lock, or no dvc.yaml.
    """
    content = git.show(head, str(lock.LOCK))
    if content is None:
        raise UserError(f"HEAD has no {lock.LOCK}: run `dvc repro`, and commit its results")
    return _kept(lock.parse(content.decode()), head)


def _kept(locked: dict[str, Any], head: str) -> dict[str, Any]:
    """Those of the stages of a dvc.lock that dvc.yaml of the commit `head` has, too: DVC keeps the entries of removed stages.

    Raises:
        UserError: The commit has no dvc.yaml.
    """
    content = git.show(head, str(pipeline.PIPELINE))
    if content is None:
        raise UserError(f"HEAD has no {pipeline.PIPELINE}: commit it, and run the command again")
    listed = value_at(params.parse(content.decode(), f"{pipeline.PIPELINE} of {head[:10]}"), "stages") or {}
    # DVC calls a stage of a matrix NAME@ITEM in dvc.lock.
    return {name: stage for name, stage in locked.items() if name.partition("@")[0] in listed}


def _write(path: Path, head: str, old: Build, new: Build, rows: Sequence[Row]) -> None:
    """Write what was found for `darkroom pr-report`.

    Raises:
        UserError: `path` cannot be written.
    """
    stages: dict[str, dict[str, str]] = {}
    for row in rows:
        stages.setdefault(row.stage, {})[row.output] = row.difference
    found = rebuilt.Rebuilt(
        commit=head,
        committed=rebuilt.digest(old.stages),
        rebuilt=rebuilt.digest(new.stages),
        stages=stages,
        seconds={name: took for name, took in new.seconds.items() if name in stages},
    )
    try:
        files.write_json(path, found.model_dump())
    except OSError as error:
        raise UserError(f"--report {path} cannot be written ({error}): name a file in a folder of yours") from None


def _report(old: Build, new: Build, rows: Sequence[Row], compared: str) -> bool:
    """Print how the outputs of two builds compare. Return whether all are the same bytes.

    Args:
        old, new: The builds.
        rows: Their outputs.
        compared: How the printed text calls the builds.
    """
    print(as_text(rows))
    if any(row.difference for row in rows):
        print("\n".join(reasons(old, new)))
        return False
    print(f"All {len(rows)} outs of {compared} are the same bytes.")
    return True


def compare_outs(old: Build, new: Build) -> Iterator[Row]:
    """One row for each output in the dvc.lock of at least one build, in the order of dvc.lock."""
    for stage in dict.fromkeys([*old.stages, *new.stages]):
        before, after = old.outs(stage), new.outs(stage)
        for path in dict.fromkeys([*before, *after]):
            yield Row(stage, path, _difference(path, before.get(path), after.get(path), old, new))


def _difference(path: str, before: str | None, after: str | None, old: Build, new: Build) -> str:
    """How an output differs between two builds, "" if it does not. `before` and `after` are its md5 in `old` and `new`."""
    if before is None or after is None:
        return "not in dvc.lock" if before is None else "was not rebuilt"
    if before == after:
        return ""
    contents = old.content(path, before), new.content(path, after)
    if contents[0] is None or contents[1] is None:
        return "other bytes; the old ones are not on this machine"
    if before.endswith(".dir"):
        files = [{file["relpath"]: file["md5"] for file in json.loads(content)} for content in contents if content]
        changed = sorted(name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name))
        return f"{len(changed)} files differ, the first is {changed[0]}"
    return first_difference(path, contents[0], contents[1])


def as_text(rows: Sequence[Row]) -> str:
    """A table of stage, output, and the first difference in the output."""
    cells = [("stage", "output", ""), *((row.stage, row.output, row.difference or "same") for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(2)]
    return "\n".join(f"{stage:{widths[0]}}  {path:{widths[1]}}  {result}".rstrip() for stage, path, result in cells)


def reasons(old: Build, new: Build) -> Iterator[str]:
    """What may explain a difference: dvc.lock is older than the code or params, or the results come from another machine."""
    made = {path for stage in new.stages for path in new.outs(stage)}
    for stage in new.stages:
        before, after = (lock.inputs(build.stages.get(stage, {})) for build in (old, new))
        changed = [key for key in after if before.get(key) != after[key] and key not in made]
        if changed:
            yield (
                f"dvc.lock records another {changed[0]} for the stage {stage} than HEAD has: run `dvc repro` and commit what it "
                "changed"
            )
    machines = _machine(old), _machine(new)
    if all(machines) and machines[0] != machines[1]:
        yield f"The results were made on another kind of machine: {machines[0]} there; {machines[1]} here."


def _machine(build: Build) -> str:
    """The kind of machine that a build was made on, from its metrics. "" if it is not known."""
    md5 = next((outs[METRICS] for outs in map(build.outs, build.stages) if METRICS in outs), "")
    content = build.content(METRICS, md5)
    return str(json.loads(content).get("machine", "")) if content else ""


def _build(
    clone: Path, head: str, changed: Mapping[str, Any] | None, surroundings: Mapping[str, str], links: str
) -> Build:
    """Clone the project, get its images, and run all stages without any cache.

    Args:
        clone: The folder to clone to.
        head: The commit.
        changed: The content of params.yaml. None keeps that of the commit.
        surroundings: Environment variables to set.
        links: How DVC puts files from its cache into the project, its option `cache.type`.

    Raises:
        UserError: The images are missing, or a stage failed.
    """
    root = cloned(clone, head)
    if changed:
        (root / params.PARAMS).write_text(yaml.safe_dump(dict(changed)), encoding="utf-8")
    _remove_results(root, head)
    variables = {**surroundings, "DVC_SITE_CACHE_DIR": f"{clone} site cache"}
    cache = root / ".dvc/cache"

    def call(*arguments: str, quiet: bool = True) -> int:
        return dvc.call(*arguments, quiet=quiet, cwd=root, extra=variables)

    call("config", "--local", "cache.dir", str(cache))
    call("config", "--local", "cache.type", links)
    _get_images(root, call)
    print(f"rebuilding {head[:10]} in {root}", flush=True)
    failed, seconds = _repro(root, variables)
    if failed:
        raise UserError(
            f"the rebuild in {root} failed: correct the cause that the stage prints, commit, and run the command again"
        )
    return Build(root, _kept(lock.read(root), head), cache, seconds)


def cloned(clone: Path, commit: str) -> Path:
    """Clone the repository to the folder `clone`, at `commit`. Return the project's folder in it."""
    git.read("clone", "--quiet", git.read("rev-parse", "--show-toplevel"), str(clone))
    git.read("checkout", "--quiet", "--detach", commit, cwd=clone)
    return clone / git.read("rev-parse", "--show-prefix")


def _repro(root: Path, variables: Mapping[str, str]) -> tuple[int, dict[str, float]]:
    """Run all stages without any cache, and print what they print.

    Returns:
        DVC's exit code, and the seconds that each stage says at its end that it took.
    """
    process = dvc.start("repro", "--force", "--no-run-cache", cwd=root, extra=variables)
    assert process.stdout is not None
    seconds = {}
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            if said := TOOK.match(line):
                seconds[said[1]] = float(said[2])
        return process.wait(), seconds
    finally:
        if process.poll() is None:  # interrupted: the stage ends with DVC
            process.terminate()
            process.wait()


def _remove_results(root: Path, head: str) -> None:
    """Remove the results that a clone of `head` has from Git.

    DVC takes those of a frozen stage, and outs that persist, as they are. What a removed stage has made is left:
    others may read it.
    """
    if (root / lock.LOCK).exists():
        made = [path for stage in _kept(lock.read(root), head).values() for path in lock.outs(stage)]
        if made:  # else Git asks what to remove
            git.read("rm", "-r", "--quiet", "--ignore-unmatch", "--", *made, cwd=root)


def _get_images(root: Path, call: Callable[..., int]) -> None:
    """Get the tracked images of a clone: from DVC's cache of this project, from a remote, or from the package of the demo data.

    Args:
        root: The project's folder in the clone.
        call: Runs DVC in that folder and returns its exit code.

    Raises:
        UserError: The images are in none of them.
    """
    call("remote", "add", "--local", "darkroom_verify", str(dvc.cache()))
    # Without -z, Git writes a name that is not ASCII in quotes.
    listed = [*filter(None, git.read("ls-files", "-z", "*.dvc", cwd=root).split("\0"))]
    raw = root / RAW
    pulled = call("pull", "--remote", "darkroom_verify", *listed) == 0 or call("pull", *listed) == 0
    if not (pulled and raw.exists()):
        if not tracked.is_demo(root):
            raise UserError(
                "neither DVC's cache nor a remote has the images that HEAD tracks: get them first, with `dvc pull`"
            )
        shutil.rmtree(raw, ignore_errors=True)
        demo.lay_out(raw)


def _changed(tree: Any, changes: Sequence[str]) -> dict[str, Any]:
    """Change the content of params.yaml. Each change is given as section.key=value.

    Raises:
        UserError: A change has another form, or names a key that does not exist.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        section, _, last = key.rpartition(".")
        parent = value_at(tree, section)
        try:
            value = params.parse(text)
        except UserError:
            equals = ""
        if not (equals and isinstance(parent, dict) and last in parent):
            raise UserError(f"--set {change!r}: say section.key=value, with a key that {params.PARAMS} has")
        parent[last] = value
    return dict(tree)
