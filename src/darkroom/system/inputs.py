"""What a stage is made from: whether it changed while the stage ran, and a digest of it for the model."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.system import files, params, pipeline
from darkroom.system.errors import UserError
from darkroom.system.trees import leaves, value_at

CODE = "src/"


def snapshot(stage: str) -> dict[str, object]:
    """All that dvc.yaml says about `stage`, as it is now: name -> a value that changes with it.

    These are the stage's entry in dvc.yaml, each of its params, and each file that it depends on: its size and time, and, unless
    it lies in a folder that is a dependency, its MD5. The time also tells of a file that changed and changed back.

    Raises:
        UserError: dvc.yaml or params.yaml is missing or damaged, or dvc.yaml has no such stage.
    """
    entry, tree = pipeline.entry(stage), params.tree_of_params()
    found: dict[str, object] = {_entry_of(stage): entry}
    used = {key: value_at(tree, key) for key in entry.get("params", [])}
    found |= {f"{key} in {params.PARAMS}": value for key, value in leaves(used)}
    for dep in map(Path, entry.get("deps", [])):
        found |= _in_folder(dep) if dep.is_dir() else {str(dep): (*_size_and_time(dep), _md5(dep))}
    return found


def refuse_changed(stage: str, before: Mapping[str, Any]) -> None:
    """Remove the outs of `stage` if anything that it is made from is not as it was in the snapshot `before`.

    DVC writes into dvc.lock what the params and dependencies are when a stage ends, whether the stage has used them or not.

    Raises:
        UserError: Something has changed.
    """
    try:
        after = snapshot(stage)
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if not changed:
            return
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        what = f"{changed[0]}{more} changed"
    except UserError as error:
        what = str(error)
    for out in pipeline.outs(before[_entry_of(stage)]):
        shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    raise UserError(
        f"while the stage ran, something that it depends on changed, so that its results were removed ({what}): run `dvc repro` "
        "for those of what is there now, or undo the change first; a training loses no finished epoch"
    )


def digest_now(stage: str) -> str:
    """The `digest` of what `stage` is made from in the current folder."""
    entry, tree = pipeline.entry(stage), params.tree_of_params()
    deps = {dep: _md5(Path(dep)) for dep in entry.get("deps", []) if Path(dep).is_file()}
    return digest(deps, {key: value_at(tree, key) for key in entry.get("params", [])})


def digest(deps: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change with the params and the files that a stage is made from.

    Folders are left out, since DVC locks those that it tracks. Code is left out as well: a change of a comment may be recorded by
    `dvc commit`, without another training.

    Args:
        deps: Path -> MD5, as in dvc.yaml or dvc.lock.
        values: Key of params.yaml -> value.
    """
    kept = {path: md5 for path, md5 in deps.items() if not (path.startswith(CODE) or md5.endswith(".dir"))}
    return files.sha256(json.dumps([kept, values], sort_keys=True).encode())[:16]


def _entry_of(stage: str) -> str:
    """The name of the stage's entry in dvc.yaml in a snapshot."""
    return f"{stage} in {pipeline.PIPELINE}"


def _in_folder(folder: Path) -> dict[str, object]:
    """Path -> `_size_and_time`, of each file in `folder`."""
    paths = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return {str(path): _size_and_time(path) for path in paths}


def _size_and_time(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds. Zeros if there is no such file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _md5(path: Path) -> str:
    """The MD5 of a file, as DVC names it. "" if there is no such file."""
    return hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else ""
