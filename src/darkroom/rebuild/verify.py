"""Whether the results rebuild: HEAD in a fresh clone, from the raw images alone, compared with dvc.lock byte for byte."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from darkroom.data import demo, tracked
from darkroom.data.layout import RAW
from darkroom.rebuild.difference import first_difference
from darkroom.system import dvc, git, lock, params
from darkroom.system.errors import UserError
from darkroom.system.trees import value_at

# No result may depend on these variables. With --set there are two builds; each gets different ones.
SURROUNDINGS = (
    {"LC_ALL": "POSIX", "TZ": "Pacific/Chatham", "PYTHONHASHSEED": "1"},
    {"LC_ALL": "C.UTF-8", "TZ": "America/St_Johns", "PYTHONHASHSEED": "2"},
)
LINKS = ("symlink,copy", "copy")  # how DVC puts files from its cache into the project


@dataclass(frozen=True)
class Row:
    """An output in the printed table. `difference` is empty where the two builds agree."""

    stage: str
    out: str
    difference: str


@dataclass(frozen=True)
class Build:
    """A project whose stages were run.

    Attributes:
        root: Its folder.
        stages: The stages of its dvc.lock.
        cache: DVC's cache, which holds the outputs by their md5.
    """

    root: Path
    stages: dict[str, Any]
    cache: Path

    def outs(self, stage: str) -> dict[str, str]:
        """The md5 of each output of a stage, by path."""
        return lock.outs(self.stages.get(stage, {}))

    def content(self, path: str, md5: str) -> bytes | None:
        """The bytes of an output, or None if this machine does not have them. Of a folder, DVC's list of its files."""
        candidates = [self.cache / "files/md5" / md5[:2] / md5[2:]]
        if not md5.endswith(".dir"):
            candidates.append(self.root / path)
        contents = (candidate.read_bytes() for candidate in candidates if candidate.is_file())
        return next((data for data in contents if hashlib.md5(data).hexdigest() == md5.removesuffix(".dir")), None)


def verify(changes: Sequence[str]) -> int:
    """Rebuild HEAD and print how its outputs compare. Return 0 if all are the same bytes, else 1.

    Args:
        changes: `section.key=value` each. dvc.lock has no results for changed params, so with changes HEAD is built twice,
            in two folders, and the two builds are compared.

    Raises:
        UserError: HEAD cannot be cloned or built, its images are missing, or a change names no param.
    """
    if not params.PARAMS.exists():
        raise UserError(f"there is no {params.PARAMS} in {Path.cwd()}: run from the project's top folder")
    head = dvc.commit("HEAD")
    changed = _changed(params.parse((git.show(head, str(params.PARAMS)) or b"{}").decode()), changes)
    reference = None if changes else Build(Path(), lock.read(commit=head), _cache(Path()))
    if git.read("status", "--porcelain"):
        print("Uncommitted changes are left out: HEAD is verified.")
    folder = Path(tempfile.mkdtemp(prefix="darkroom verify é "))
    same = False
    try:
        rebuilt = _build(folder / "first", head, changed if changes else None, SURROUNDINGS[0], LINKS[0])
        if reference is None:
            reference, rebuilt = rebuilt, _build(folder / "second", head, changed, SURROUNDINGS[1], LINKS[1])
        rows = list(compare_outs(reference, rebuilt))
        same = not any(row.difference for row in rows)
        print(as_text(rows))
        if not same:
            print("\n".join(reasons(reference, rebuilt)))
    finally:
        if same or not (folder / "first").exists():
            shutil.rmtree(folder)
        else:
            print(f"The rebuilt project is kept in {folder}: look at it, and delete it when you are done")
    if same:
        what = f"two builds with {' '.join(changes)}" if changes else "a rebuild and dvc.lock"
        print(f"All {len(rows)} outs of {what} are the same bytes.")
    return 0 if same else 1


def compare_outs(old: Build, new: Build) -> Iterator[Row]:
    """A row for each output that one of the two dvc.lock files lists, in their order."""
    for stage in dict.fromkeys([*old.stages, *new.stages]):
        before, after = old.outs(stage), new.outs(stage)
        for path in dict.fromkeys([*before, *after]):
            yield Row(stage, path, _difference(path, before.get(path), after.get(path), old, new))


def _difference(path: str, before: str | None, after: str | None, old: Build, new: Build) -> str:
    """How an output differs between two builds, by its md5 in each; "" where it is the same."""
    if before is None or after is None:
        return "not in dvc.lock" if before is None else "was not rebuilt"
    if before == after:
        return ""
    contents = old.content(path, before), new.content(path, after)
    if contents[0] is None or contents[1] is None:
        return "other bytes (the old ones are not on this machine)"
    if before.endswith(".dir"):
        files = [{file["relpath"]: file["md5"] for file in json.loads(content)} for content in contents if content]
        changed = sorted(name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name))
        return f"{len(changed)} files, the first is {changed[0]}"
    return first_difference(path, contents[0], contents[1])


def as_text(rows: Sequence[Row]) -> str:
    """A table of stage, output, and where the output first differs."""
    cells = [("stage", "out", ""), *((row.stage, row.out, row.difference or "same") for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(2)]
    return "\n".join(f"{stage:{widths[0]}}  {out:{widths[1]}}  {verdict}".rstrip() for stage, out, verdict in cells)


def reasons(old: Build, new: Build) -> Iterator[str]:
    """What may explain a difference: a dvc.lock that is older than the code or params, or another machine."""
    made = {path for stage in new.stages for path in new.outs(stage)}
    for stage in new.stages:
        before, after = (lock.inputs(build.stages.get(stage, {})) for build in (old, new))
        changed = [key for key in after if before.get(key) != after[key] and key not in made]
        if changed:
            yield (
                f"dvc.lock was made with another {changed[0]} than HEAD has, as far as {stage} goes: "
                "run `dvc repro` and commit what it changed"
            )
    for stage in new.stages:
        for path in old.outs(stage).keys() & new.outs(stage).keys():
            if path.endswith(".pth"):
                yield _other_machine(path, *(_note(build, path, build.outs(stage)[path]) for build in (old, new)))


def _other_machine(path: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """How the machines differ that made a model in two builds, by the notes beside it."""
    if not before:
        return f"No note beside {path} says which machine made it."
    facts = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if not facts:
        return f"{path} was made on a machine like this one, by the same versions: look for the cause elsewhere."
    differing = "; ".join(f"{key} {before.get(key)} there, {after.get(key)} here" for key in facts)
    return f"{path} was made on another machine: {differing}."


def _note(build: Build, path: str, md5: str) -> dict[str, str]:
    """What `checkpoint.record` wrote about the machine that made a model; {} if the note is about another file."""
    try:
        note = json.loads((build.root / path).with_suffix(".json").read_text(encoding="utf-8"))
        digest, facts = note["sha256"], dict(note["made_by"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    content = build.content(path, md5)
    return {} if content is not None and hashlib.sha256(content).hexdigest() != digest else facts


def _build(
    clone: Path, head: str, changed: Mapping[str, Any] | None, surroundings: Mapping[str, str], links: str
) -> Build:
    """Clone `head` to `clone`, get the tracked images, and run every stage without using any cache."""
    git.read("clone", "--quiet", git.read("rev-parse", "--show-toplevel"), str(clone))
    git.read("checkout", "--quiet", "--detach", head, cwd=clone)
    root = clone / git.read("rev-parse", "--show-prefix")
    if changed:
        (root / params.PARAMS).write_text(yaml.safe_dump(dict(changed)), encoding="utf-8")
    variables = {**surroundings, "DVC_SITE_CACHE_DIR": f"{clone} site cache"}
    cache = root / ".dvc/cache"

    def call(*arguments: str, quiet: bool = True) -> int:
        return dvc.call(*arguments, quiet=quiet, cwd=root, extra=variables)

    call("config", "--local", "cache.dir", str(cache))
    call("config", "--local", "cache.type", links)
    call("remote", "add", "--local", "darkroom_verify", str(_cache(Path())))
    listed = git.read("ls-files", "*.dvc", cwd=root).splitlines()
    raw = root / RAW
    pulled = call("pull", "--remote", "darkroom_verify", *listed) == 0 or call("pull", *listed) == 0
    if not (pulled and raw.exists()):
        if not tracked.is_demo(root):
            raise UserError("neither DVC's cache nor a remote has the images that HEAD tracks: `dvc pull` them first")
        shutil.rmtree(raw, ignore_errors=True)
        demo.lay_out(raw)
    for note in root.glob("models/*.json"):
        note.unlink()  # it is about the machine that made the committed models; the rebuild writes one about this machine
    print(f"rebuilding {head[:10]} in {root}", flush=True)
    if call("repro", "--force", "--no-run-cache", quiet=False):
        raise UserError(f"the rebuild in {root} failed: mend what the stage says, commit, and verify again")
    return Build(root, lock.read(root), cache)


def _changed(tree: Any, changes: Sequence[str]) -> dict[str, Any]:
    """params.yaml's `tree` with changes, each given as section.key=value.

    Raises:
        UserError: A change has another form, or names a key that does not exist.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        section, _, last = key.rpartition(".")
        parent = value_at(tree, section)
        try:
            value = params.parse(text)
        except yaml.YAMLError:
            equals = ""
        if not (equals and isinstance(parent, dict) and last in parent):
            raise UserError(f"--set {change!r}: say section.key=value, with a key that {params.PARAMS} has")
        parent[last] = value
    return dict(tree)


def _cache(root: Path) -> Path:
    """The folder of DVC's cache."""
    return Path(dvc.read("cache", "dir", cwd=root).strip())
