"""The report for the reviewers of a pull request: the comparison, DVC's diffs and the charts, in one Markdown file."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from darkroom.comparison import compare, gate, revision, text
from darkroom.evaluation import seed_runs
from darkroom.system import dvc, files, git

FOLDER = Path("report")  # ignored by Git
CHARTS = ("confusion", "roc", "reliability", "curves", "tsne")


def write(base: str | None, prefix: str, fail_on: str | None, max_drop: Mapping[str, float]) -> tuple[Path, list[str]]:
    """Compare the work tree with `base` and write report/report.md. Return its path, and the reasons why the gate closes.

    Args:
        base: A Git revision. None means the commit at which this branch left main.
        prefix: The text before `plots/NAME.png` in the links to the charts: the start of a URL, or a relative path.
        fail_on, max_drop: As in `gate.failures`.

    Raises:
        UserError: One side has no results, or they cannot be compared.
    """
    sides = revision.load(base or revision.default_base()), revision.load(None)
    if fail_on or max_drop:
        gate.refuse_same(*sides)
    comparison = compare.compare(*sides)
    reasons = gate.failures(comparison, fail_on, max_drop)
    parts = ["# Darkroom's report", *(f"**The gate is closed.** {reason}." for reason in reasons), uncommitted()]
    parts.append(text.as_markdown(comparison))
    for title, command in (("Metrics", "metrics"), ("Params", "params")):
        parts.append(folded(f"{title}: the output of `dvc {command} diff`", diff(command, sides[0])))
    parts.append(folded("Charts", "\n".join(f"![{name}]({prefix}plots/{name}.png)" for name in CHARTS)))
    path = FOLDER / "report.md"
    files.write_bytes(path, "\n\n".join(part.strip() for part in parts if part).encode("utf-8", "replace") + b"\n")
    return path, reasons


def uncommitted() -> str:
    """A sentence that says whether the results in the work tree are those that the branch has committed."""
    results = ("dvc.lock", "metrics", "plots", "data/manifest.csv", f":(exclude){seed_runs.PATH}")
    changed = git.read("status", "--porcelain", "--", *results)
    if not changed:
        return "The rebuilt results are those that the branch has committed."
    names = ", ".join(f"`{line[3:]}`" for line in changed.splitlines())
    return (
        f"**The rebuilt results are not those that the branch has committed** ({names}): run `dvc repro` there and commit "
        "what it changes. The metrics below are the rebuilt ones. The charts are the committed ones."
    )


def diff(command: str, base: revision.Revision) -> str:
    """The output of `dvc metrics diff` or `dvc params diff` against `base`, as Markdown."""
    try:
        table = dvc.read(command, "diff", "--md", str(base.commit)).strip()
    except subprocess.CalledProcessError:
        return f"`dvc {command} diff {base.name}` failed. The log has the reason."
    return table if len(table.splitlines()) > 2 else "No difference."  # the first two lines are the table's head


def folded(title: str, text: str) -> str:
    """A block of Markdown that GitHub shows after a click on its title."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
