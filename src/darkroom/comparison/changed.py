"""What else than params and images differs between the inputs of two revisions: code, versions of packages, other files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from darkroom.data.layout import RAW
from darkroom.results.revision import Revision
from darkroom.system import git, lock, pins

CODE = "src"


@dataclass(frozen=True)
class Changed:
    """The inputs that differ, of the stages that both sides have.

    Attributes:
        code: File of code -> the stages that depend on it.
        pins: Package -> its pinned versions in base and in head. None if a side does not pin it.
        files: Other files and folders, such as data/groups.csv. Neither data/raw nor what stages make is among them.
        commands: The stages whose command differs.
    """

    code: dict[str, list[str]] = field(default_factory=dict)
    pins: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def between(base: Revision, head: Revision) -> Changed:
    """What differs in dvc.lock, and for files of pins in these."""
    both = [stage for stage in head.lock if stage in base.lock]
    made = {path for side in (base, head) for stage in side.lock.values() for path in lock.outs(stage)}
    stages_of: dict[str, list[str]] = {}
    for stage in both:
        before, after = lock.deps(base.lock[stage]), lock.deps(head.lock[stage])
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path) and path not in made and path != RAW.as_posix():
                stages_of.setdefault(path, []).append(stage)
    folders = {path: PurePosixPath(path).parts[0] for path in stages_of}
    pinned = dict(_pins(base, head, [path for path in stages_of if folders[path] == str(pins.FOLDER)]))
    return Changed(
        code={path: stages for path, stages in stages_of.items() if folders[path] == CODE},
        pins=pinned,
        files=[
            path for path in stages_of if folders[path] != CODE and not (pinned and folders[path] == str(pins.FOLDER))
        ],
        commands=[stage for stage in both if base.lock[stage].get("cmd") != head.lock[stage].get("cmd")],
    )


def _pins(base: Revision, head: Revision, paths: list[str]) -> Iterator[tuple[str, tuple[str | None, str | None]]]:
    """The packages whose pins differ in the files `paths`, with their versions in base and in head."""
    for path in paths:
        before, after = (
            dict(re.findall(r"^([\w.-]+)==([\w.]+)", _text(side.commit, path), re.M)) for side in (base, head)
        )
        for package in sorted(before.keys() | after.keys()):
            if before.get(package) != after.get(package):
                yield package, (before.get(package), after.get(package))


def _text(commit: str | None, path: str) -> str:
    """A file of a commit, or of the work tree; "" if there is none."""
    if commit:
        return (git.show(commit, path) or b"").decode("utf-8", "replace")
    return Path(path).read_text("utf-8", "replace") if Path(path).is_file() else ""
