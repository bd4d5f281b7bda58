"""What a reviewer of a pull request reads: the comparison, DVC's own diffs and the pictures, as one Markdown file."""

import subprocess
from pathlib import Path

from darkroom.comparison import compare, report, revision
from darkroom.system import dvc, files, git

FOLDER = Path("report")  # ignored by Git
PICTURES = ("confusion", "roc", "reliability", "curves", "tsne")


def write(base: str | None, pictures: str) -> Path:
    """Write report/report.md about the work tree against `base` and return its path.

    Args:
        base: A revision; where the branch left main when None.
        pictures: What to put before `plots/NAME.png` to reach the head's pictures: a URL's beginning, or nothing.

    Raises:
        UserError: A side lacks results.
    """
    sides = revision.load(base or revision.default_base()), revision.load(None)
    parts = ["# Darkroom's report", uncommitted(), report.markdown(compare.compare(*sides))]
    for title, command in (("Metrics", "metrics"), ("Params", "params")):
        parts.append(folded(f"{title}, as `dvc {command} diff` has them", diff(command, sides[0])))
    parts.append(folded("Pictures", "\n".join(f"![{name}]({pictures}plots/{name}.png)" for name in PICTURES)))
    path = FOLDER / "report.md"
    files.write_bytes(path, "\n\n".join(part.strip() for part in parts if part).encode("utf-8", "replace") + b"\n")
    return path


def uncommitted() -> str:
    """A warning where the rebuilt results are not those that were committed."""
    changed = git.read("status", "--porcelain", "--", "dvc.lock", "metrics", "plots", "data/manifest.csv")
    if not changed:
        return "The results were rebuilt, and are those that the branch has committed."
    names = ", ".join(f"`{line[3:]}`" for line in changed.splitlines())
    return (
        f"**The rebuilt results are not those that the branch has committed** ({names}): run `dvc repro` there and commit "
        "what it changes. The figures below are of the rebuilt ones, the pictures are the committed ones."
    )


def diff(command: str, base: revision.Revision) -> str:
    """`dvc metrics diff` or `dvc params diff` against `base`, as Markdown."""
    try:
        table = dvc.read(command, "diff", "--md", str(base.commit)).strip()
    except subprocess.CalledProcessError:
        return f"`dvc {command} diff {base.name}` failed; see the log."
    return table if len(table.splitlines()) > 2 else "None differs."  # the first two are the table's head


def folded(title: str, text: str) -> str:
    """Text that GitHub shows after a click."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
