"""The report for the reviewers of a pull request: the comparison, DVC's diffs and the charts, in one Markdown file."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from darkroom.comparison import compare, gate, text
from darkroom.evaluation import seed_runs
from darkroom.results import revision
from darkroom.system import dvc, files, git, lock, rebuilt
from darkroom.system.errors import UserError
from darkroom.system.markdown import cell, code
from darkroom.system.rebuilt import Rebuilt

FOLDER = Path("report")  # ignored by Git
CHARTS = ("confusion", "roc", "reliability", "curves", "tsne")


def write(
    base: str | None,
    prefix: str,
    fail_on: str | None,
    max_drop: Mapping[str, float],
    verified: Path | None = None,
) -> tuple[Path, list[str]]:
    """Compare the work tree with `base` and write report/report.md. Return its path, and the reasons why the gate closes.

    Args:
        base: A Git revision. None means the commit at which this branch left main.
        prefix: The text before `plots/NAME.png` in the links to the charts: the start of a URL, or a relative path.
        fail_on, max_drop: As in `gate.failures`.
        verified: What `darkroom verify --report` wrote about these results. Without it no stage is called rebuilt.

    Raises:
        UserError: One side has no results, they cannot be compared, or `verified` is about other results.
    """
    sides = revision.load(base or revision.default_base()), revision.load(None)
    if fail_on or max_drop:
        gate.refuse_same(*sides)
    record = load_record(verified, sides[1]) if verified else None
    comparison = compare.compare(*sides)
    reasons = [*differences(record), *gate.failures(comparison, fail_on, max_drop)]
    parts = ["# Darkroom's report", *(f"**The gate is closed.** {reason}." for reason in reasons)]
    parts += [provenance(record, sides[1]), uncommitted(), text.as_markdown(comparison)]
    for title, command in (("Metrics", "metrics"), ("Params", "params")):
        parts.append(folded(f"{title}: what `dvc {command} diff` finds", diff(command, sides[0])))
    parts.append(folded("Charts", "\n".join(f"![{name}]({prefix}plots/{name}.png)" for name in CHARTS)))
    path = FOLDER / "report.md"
    files.write_bytes(path, "\n\n".join(part.strip() for part in parts if part).encode("utf-8", "replace") + b"\n")
    return path, reasons


def load_record(path: Path, head: revision.Revision) -> Rebuilt:
    """What `darkroom verify --report` found, if it is about the dvc.lock of the work tree.

    Raises:
        UserError: It cannot be read, or is about another dvc.lock.
    """
    record = rebuilt.read(path)
    if rebuilt.digest(head.lock) not in (record.committed, record.rebuilt):
        raise UserError(
            f"{path} is about the {lock.LOCK} of commit {record.commit[:10]}, not about this one: commit the results, and run "
            f"`darkroom verify --report {path}`"
        )
    return record


def differences(record: Rebuilt | None) -> list[str]:
    """The reason why a rebuild closes the gate, if it gave other bytes."""
    stages = ", ".join(code(name) for name in record.different()) if record else ""
    return [f"The rebuild gave other bytes than those committed: {stages}"] if stages else []


def provenance(record: Rebuilt | None, head: revision.Revision) -> str:
    """Where the results of each stage in the work tree come from. Only what `darkroom verify` has rebuilt is called rebuilt."""
    commit = git.read("rev-parse", "HEAD")
    different = record.different() if record else {}
    committed = lock.parse((git.show(commit, str(lock.LOCK)) or b"stages: {}").decode())

    def origin(stage: str) -> str:
        if stage in different:
            return "**rebuilt, other bytes than those committed**"
        if record and stage in record.stages:
            return "rebuilt, the same bytes as those committed"
        if committed.get(stage) == head.lock[stage]:
            return "taken as committed, not rebuilt"
        return "not those committed: run here, or taken from a run-cache"

    origins: dict[str, list[str]] = {}
    for stage in head.lock:
        origins.setdefault(origin(stage), []).append(code(stage))
    if head.runs:
        origins["taken as it is, not rebuilt"] = [code(seed_runs.PATH)]
    lines = [f"Commit {code(commit)}. The results of its stages are:", ""]
    lines += [f"- {how}: {', '.join(stages)}" for how, stages in origins.items()]
    lines += [f"    - {code(path)}: {code(how)}" for outs in different.values() for path, how in outs.items()]
    if record and different:
        whose = "rebuilt" if rebuilt.digest(head.lock) == record.rebuilt else "committed"
        lines += ["", f"The figures below are the {whose} ones."]
    return "\n".join(lines)


def uncommitted() -> str:
    """A sentence that says which results in the work tree are not those that the branch has committed. "" if all are."""
    results = ("dvc.lock", "metrics", "plots", "data/manifest.csv", f":(exclude){seed_runs.PATH}")
    changed = git.read("status", "--porcelain", "--", *results)
    if not changed:
        return ""
    names = ", ".join(code(line[3:]) for line in changed.splitlines())
    return (
        f"**The results in the work tree are not those that the branch has committed** ({names}): run `dvc repro` there and "
        "commit what it changes. The figures below are those of the work tree. The charts are the committed ones."
    )


def diff(command: str, base: revision.Revision) -> str:
    """What `dvc metrics diff` or `dvc params diff` finds against `base`, as a table. DVC's own would take names as Markdown."""
    try:
        found = list(rows(command, str(base.commit)))
    except (subprocess.CalledProcessError, ValueError):
        return f"{code(f'dvc {command} diff {base.name}')} failed. The log has the reason."
    head = ["| file | key | base | head | change |", "|---|---|---:|---:|---:|"]
    return "\n".join([*head, *found]) if found else "No difference."


def rows(command: str, base: str) -> Iterator[str]:
    """A row of a table for each value of metrics or params that differs from the commit `base`."""
    for path, changes in json.loads(dvc.read(command, "diff", "--json", base)).items():
        for key, change in changes.items():
            values = (_shown(change.get(side)) for side in ("old", "new", "diff"))
            yield f"| {cell(path)} | {cell(key)} | {' | '.join(values)} |"


def _shown(value: Any) -> str:
    """A value of a table: five digits of a number, as DVC shows it, and anything else as code."""
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else cell(str(value))


def folded(title: str, text: str) -> str:
    """A block of Markdown that GitHub shows after a click on its title."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
