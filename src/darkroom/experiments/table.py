"""`darkroom experiments`: the experiments of the last commit in a table that fits a screen.

`dvc exp show` has a column for each metric and param, some 270 of them, and 80 with `--only-changed`.
"""

import json
from typing import Any

from darkroom.evaluation.titles import figure
from darkroom.inference.locate import reader
from darkroom.system import dvc, git, markdown, params
from darkroom.system.trees import leaves

RESULTS = "metrics/evaluate.json"
HERE, HEAD = "work tree", "HEAD"
SHOWN = 6  # params that an experiment changes; of more, the number is said


def as_markdown() -> str:
    """A row for the work tree, HEAD and each experiment of HEAD: what it changes, and the test accuracy of each model.

    Raises:
        UserError: There is no commit.
    """
    head = dvc.commit(HEAD)
    base = _params(head)
    rows = {HERE: None, HEAD: head, **_experiments(head)}
    found = {name: _scores(commit) for name, commit in rows.items()}
    known = {model: of["title"] for scores in found.values() for model, of in scores.items() if "title" in of}
    titles = {model: known[model] for model in dict.fromkeys([*params.models(), *known]) if model in known}
    lines = [
        "| experiment | changed | " + " | ".join(titles.values()) + " |",
        "|---|---|" + "---:|" * len(titles),
    ]
    for name, commit in rows.items():
        cells = [figure(found[name].get(model, {}).get("accuracy")) for model in titles]
        changed = "" if name == HEAD else _changed(base, _params(commit))
        lines.append(f"| {markdown.cell(name)} | {changed} | {' | '.join(cells)} |")
    lines += [
        "",
        "Test accuracy with 95 % intervals. `darkroom compare HEAD NAME` says whether a difference is more than chance;",
        "`dvc exp show` has all metrics and params.",
    ]
    return "\n".join(lines)


def _experiments(head: str) -> dict[str, str]:
    """The commit of each experiment of the commit `head`, by name, the oldest first."""
    baseline = f"refs/exps/{head[:2]}/{head[2:]}"
    listed = git.read("for-each-ref", "--sort=creatordate", "--format=%(refname:lstrip=4) %(objectname)", baseline)
    return dict(line.rsplit(" ", 1) for line in listed.splitlines())


def _read(commit: str | None, path: str) -> str:
    """A file of a commit, or of the work tree for None; "" if it is not there."""
    return (reader(commit)(path) or b"").decode("utf-8", "replace")


def _params(commit: str | None) -> dict[str, Any]:
    """The value of each key of params.yaml."""
    return dict(leaves(params.parse(_read(commit, str(params.PARAMS)))))


def _scores(commit: str | None) -> dict[str, Any]:
    """The models in metrics/evaluate.json, by name. {} if there are none."""
    try:
        found = json.loads(_read(commit, RESULTS) or "{}")
    except ValueError:
        return {}
    return {name: of for name, of in found.items() if isinstance(of, dict)} if isinstance(found, dict) else {}


def _changed(base: dict[str, Any], here: dict[str, Any]) -> str:
    """The params that differ from those of HEAD, as KEY=VALUE."""
    missing = object()
    keys = [key for key in {**base, **here} if base.get(key, missing) != here.get(key, missing)]
    if len(keys) > SHOWN:
        return f"{len(keys)} params"
    return ", ".join(markdown.cell(f"{key}={here.get(key, 'absent')}") for key in keys)
