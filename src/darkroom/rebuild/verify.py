"""Whether the results rebuild: HEAD in a fresh clone, from the raw images alone, against dvc.lock, byte for byte."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from darkroom.data import demo
from darkroom.rebuild.difference import first_difference
from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError

# Nothing of this may show in a result, so each build has other ones.
SURROUNDINGS = (
    {"LC_ALL": "POSIX", "TZ": "Pacific/Chatham", "PYTHONHASHSEED": "1"},
    {"LC_ALL": "C.UTF-8", "TZ": "America/St_Johns", "PYTHONHASHSEED": "2"},
)
LINKS = ("symlink,copy", "copy")  # how DVC puts into the project what lies in its cache


@dataclass(frozen=True)
class Row:
    """One out of the table: `difference` is empty where the two builds agree."""

    stage: str
    out: str
    difference: str


@dataclass(frozen=True)
class Build:
    """A project whose stages were run: dvc.lock, and where the bytes that it names lie."""

    root: Path
    lock: dict[str, Any]
    cache: Path

    def content(self, out: Mapping[str, str]) -> bytes | None:
        """The bytes of `out` (of a folder: DVC's list of its files), or None where they are not on this machine."""
        digest = out["md5"]
        places = [self.cache / "files/md5" / digest[:2] / digest[2:]]
        if not digest.endswith(".dir"):
            places.append(self.root / out["path"])
        contents = (place.read_bytes() for place in places if place.is_file())
        return next((data for data in contents if _is(digest, data)), None)


def verify(changes: Sequence[str]) -> int:
    """Rebuild HEAD and print how its outs compare; return 0 if all are the same bytes, else 1.

    Args:
        changes: `section.key=value` each. With some, dvc.lock has nothing to compare with, and HEAD is built twice, in two
            places, and the builds are compared.

    Raises:
        UserError: HEAD cannot be cloned or built, its images cannot be had, or a change names no param.
    """
    if not params.PARAMS.exists():
        raise UserError(f"there is no {params.PARAMS} in {Path.cwd()}: run from the project's top folder")
    head = git.commit("HEAD")
    changed = _changed(params.parse((git.show(head, str(params.PARAMS)) or b"{}").decode()), changes)
    reference = None if changes else Build(Path(), _lock(Path(), head), _cache(Path()))
    if git.read("status", "--porcelain"):
        print("What is not committed is left out: HEAD is verified.")
    place = Path(tempfile.mkdtemp(prefix="darkroom verify é "))
    same = False
    try:
        rebuilt = _build(place / "first", head, changed if changes else None, SURROUNDINGS[0], LINKS[0])
        if reference is None:
            reference, rebuilt = rebuilt, _build(place / "second", head, changed, SURROUNDINGS[1], LINKS[1])
        rows = list(compare(reference, rebuilt))
        same = not any(row.difference for row in rows)
        print(table(rows))
        if not same:
            print("\n".join(reasons(reference, rebuilt)))
    finally:
        if same or not (place / "first").exists():
            shutil.rmtree(place)
        else:
            print(f"What was rebuilt is kept for you to look at, and to delete: {place}")
    if same:
        what = f"two builds with {' '.join(changes)}" if changes else "a rebuild and dvc.lock"
        print(f"All {len(rows)} outs of {what} are the same bytes.")
    return 0 if same else 1


def compare(old: Build, new: Build) -> Iterator[Row]:
    """A row for each out that either dvc.lock names, in their order."""
    stages = list(dict.fromkeys([*old.lock, *new.lock]))
    for stage in stages:
        before, after = (
            {out["path"]: out for out in build.lock.get(stage, {}).get("outs", [])} for build in (old, new)
        )
        for path in dict.fromkeys([*before, *after]):
            yield Row(stage, path, _difference(path, before.get(path), after.get(path), old, new))


def _difference(path: str, before: Any, after: Any, old: Build, new: Build) -> str:
    if before is None or after is None:
        return "not in dvc.lock" if before is None else "was not rebuilt"
    if before["md5"] == after["md5"]:
        return ""
    contents = old.content(before), new.content(after)
    if contents[0] is None or contents[1] is None:
        return "other bytes (the old ones are not on this machine)"
    if before["md5"].endswith(".dir"):
        files = [{file["relpath"]: file["md5"] for file in json.loads(content)} for content in contents if content]
        changed = sorted(name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name))
        return f"{len(changed)} files, the first is {changed[0]}"
    return first_difference(path, contents[0], contents[1])


def table(rows: Sequence[Row]) -> str:
    """Stage, out, and whether they are the same or where they first differ."""
    cells = [("stage", "out", ""), *((row.stage, row.out, row.difference or "same") for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(2)]
    return "\n".join(f"{stage:{widths[0]}}  {out:{widths[1]}}  {verdict}".rstrip() for stage, out, verdict in cells)


def reasons(old: Build, new: Build) -> Iterator[str]:
    """What may explain a difference: dvc.lock behind the code or params, or another machine."""
    for stage in new.lock:
        inputs = [_inputs(build.lock.get(stage, {})) for build in (old, new)]
        own = {out["path"] for other in new.lock.values() for out in other.get("outs", [])}
        changed = [key for key in inputs[1] if inputs[0].get(key) != inputs[1][key] and key not in own]
        if changed:
            yield (
                f"dvc.lock was made with another {changed[0]} than HEAD has, as far as {stage} goes: "
                "run `dvc repro` and commit what it changed"
            )
    for stage in new.lock:
        models = [
            {out["path"]: out for out in build.lock.get(stage, {}).get("outs", []) if out["path"].endswith(".pth")}
            for build in (old, new)
        ]
        for path in models[0].keys() & models[1].keys():
            before, after = (_note(build, own[path]) for build, own in zip((old, new), models, strict=True))
            facts = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
            if not before:
                yield f"No note beside {path} says which machine made it."
            elif facts:
                differing = "; ".join(f"{key} {before.get(key)} there, {after.get(key)} here" for key in facts)
                yield f"{path} was made on another machine: {differing}."
            else:
                yield f"{path} was made on such a machine as this, by the same versions: look for the cause elsewhere."


def _inputs(stage: Mapping[str, Any]) -> dict[str, Any]:
    """dep or param -> what dvc.lock holds of it."""
    found: dict[str, Any] = {dep["path"]: dep["md5"] for dep in stage.get("deps", [])}
    for tree in stage.get("params", {}).values():
        found |= tree
    return found


def _note(build: Build, out: Mapping[str, str]) -> dict[str, str]:
    """What `environment.record` wrote of the machine that made a model; nothing where it is about another file."""
    path = (build.root / out["path"]).with_suffix(".json")
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        digest, facts = note["sha256"], dict(note["made_by"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    content = build.content(out)
    return {} if content is not None and hashlib.sha256(content).hexdigest() != digest else facts


def _build(
    clone: Path, head: str, changed: Mapping[str, Any] | None, surroundings: Mapping[str, str], links: str
) -> Build:
    """Clone `head` to `clone`, get the tracked images, and run every stage, with nothing taken from any cache."""
    git.read("clone", "--quiet", git.read("rev-parse", "--show-toplevel"), str(clone))
    git.read("checkout", "--quiet", "--detach", head, cwd=clone)
    root = clone / git.read("rev-parse", "--show-prefix")
    if changed:
        (root / params.PARAMS).write_text(yaml.safe_dump(dict(changed)), encoding="utf-8")
    environment = {**surroundings, "DVC_SITE_CACHE_DIR": f"{clone} site cache"}
    cache = root / ".dvc/cache"

    def call(*arguments: str, quiet: bool = True) -> int:
        return dvc.call(*arguments, quiet=quiet, cwd=root, extra=environment)

    call("config", "--local", "cache.dir", str(cache))
    call("config", "--local", "cache.type", links)
    call("remote", "add", "--local", "darkroom_verify", str(_cache(Path())))
    tracked = git.read("ls-files", "*.dvc", cwd=root).splitlines()
    raw = root / demo.RAW
    pulled = call("pull", "--remote", "darkroom_verify", *tracked) == 0 or call("pull", *tracked) == 0
    if not (pulled and raw.exists()):
        if not demo.is_tracked(root):
            raise UserError("neither DVC's cache nor a remote has the images that HEAD tracks: `dvc pull` them first")
        shutil.rmtree(raw, ignore_errors=True)
        demo.lay_out(raw)
    for note in root.glob("models/*.json"):
        note.unlink()  # of the machine that made the models; now this one is to be noted, whatever comes out
    print(f"rebuilding {head[:10]} in {root}", flush=True)
    if call("repro", "--force", "--no-run-cache", quiet=False):
        raise UserError(f"the rebuild in {root} failed: mend what the stage says, commit, and verify again")
    return Build(root, _lock(root), cache)


def _changed(tree: Any, changes: Sequence[str]) -> dict[str, Any]:
    """params.yaml's `tree` with changes, each given as section.key=value.

    Raises:
        UserError: A change has another form, or names no key that there is.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        section, _, last = key.rpartition(".")
        place = params.value_at(tree, section)
        try:
            value = params.parse(text)
        except yaml.YAMLError:
            equals = ""
        if not (equals and isinstance(place, dict) and last in place):
            raise UserError(f"--set {change!r}: say section.key=value, with a key that {params.PARAMS} has")
        place[last] = value
    return dict(tree)


def _lock(root: Path, revision: str | None = None) -> dict[str, Any]:
    """The stages of dvc.lock, in the work tree or in a revision."""
    text = git.show(revision, "dvc.lock", root) if revision else (root / "dvc.lock").read_bytes()
    if text is None:
        raise UserError(f"{revision} has no dvc.lock to verify: run `dvc repro` and commit it, or try --set")
    return yaml.safe_load(text)["stages"]


def _cache(root: Path) -> Path:
    return Path(dvc.read("cache", "dir", cwd=root).strip())


def _is(digest: str, data: bytes) -> bool:
    return hashlib.md5(data).hexdigest() == digest.removesuffix(".dir")
