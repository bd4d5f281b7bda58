"""`darkroom merge`: two branches that were both trained become one, whose results are made anew.

Such branches differ in dvc.lock, metrics, plots and cards, and no mixture of the two is a result. This side's are taken, so that
they fit together, and `dvc repro` then makes those that the merged images, params and code change. Git could do so by a merge
driver, but the merge button of a forge knows none.
"""

import json
from pathlib import Path
from typing import Any

from darkroom.evaluation import seed_runs
from darkroom.system import dvc, git, lock, params, pipeline
from darkroom.system.errors import UserError

SIDES = ("HEAD", "MERGE_HEAD")


def begin(revision: str | None) -> list[str]:
    """Merge `revision`, or go on with the merge that is under way (None), up to the point where the stages can run.

    Returns:
        The paths of the results, for `finish`. [] if Git needs no commit, because one side has nothing of its own.

    Raises:
        UserError: No merge is under way, Git refuses to begin one, files that people write are in conflict or have changes that
            are not part of the merge, or what DVC tracks is not to be had, or would be lost.
    """
    git.refuse_elsewhere()
    if revision is not None and not _begin(revision):
        return []
    if git.commit("MERGE_HEAD") is None:
        raise UserError("no merge is under way: say `darkroom merge BRANCH`")
    results = _results()
    _take_ours(results)
    if conflicts := _listed("diff", "--name-only", "--diff-filter=U"):
        images = (
            "; docs/how-to/merging.md says how to mend a .dvc file, as the last one" if _tracking(conflicts) else ""
        )
        raise UserError(
            f"in conflict: {', '.join(conflicts)}: mend them and `git add` them, then say `darkroom merge` without a branch "
            f"(`git merge --abort` goes back{images})"
        )
    changed = _listed("diff", "--name-only", "--relative")
    if changed := [path for path in changed if not any(f"{path}/".startswith(f"{made}/") for made in results)]:
        raise UserError(
            f"not added to the merge: {', '.join(changed)}: `git add` them, then say `darkroom merge` again"
        )
    _remove_what_no_stage_makes(results)
    tracked = _listed("ls-files", "--", "*.dvc")
    _refuse_loss()
    if tracked and dvc.call("checkout", "--quiet", *tracked):
        raise UserError(
            f"what the merged {' and '.join(tracked)} track is not here, or has changes of its own: get it by `dvc pull`, or "
            "track the changes by `dvc add` and `git add`, then say `darkroom merge` without a branch"
        )
    return results


def finish(results: list[str]) -> None:
    """Tell Git of the results that were made, so that `git commit` ends the merge. DVC's own are ignored by Git."""
    git.read("add", "--all", "--", *_listed("ls-files", "--cached", "--others", "--exclude-standard", "--", *results))


def _begin(revision: str) -> bool:
    """Begin to merge. Return False if Git needs no commit for it.

    Raises:
        UserError: Git knows no such revision, a merge is under way, or there are changes that are not committed.
    """
    if git.commit("MERGE_HEAD"):
        raise UserError("a merge is under way: say `darkroom merge` without a branch, or `git merge --abort`")
    commit = dvc.commit(revision)
    if changed := git.read("status", "--porcelain", "--untracked-files=no").splitlines():
        raise UserError(
            f"there are changes that are not committed ({changed[0][3:]}): commit or stash them, since they would become part of "
            "the merged results"
        )
    try:
        git.read("merge", "--ff", "--no-commit", "-m", f"Merge {revision}", commit)
    except UserError:
        if git.commit("MERGE_HEAD") is None:  # else it has begun, with conflicts
            raise
    return git.commit("MERGE_HEAD") is not None


def _results() -> list[str]:
    """The paths of all that stages and commands make, on either side: outs, dvc.lock, the cards."""
    made = [str(lock.LOCK)]
    for side in SIDES:
        made += _outs(_read(side, str(pipeline.PIPELINE)).get("stages", {}))
        models = _read(side, str(params.PARAMS)).get("models")
        made += [f"models/{name}.md" for name in models or []]
    return list(dict.fromkeys(made))


def _read(revision: str, path: str) -> dict[str, Any]:
    """The content of a YAML file of a commit; {} if it has none."""
    found = params.parse((git.show(revision, path) or b"{}").decode())
    return found if isinstance(found, dict) else {}


def _outs(stages: dict[str, Any]) -> list[str]:
    return [str(path) for stage in stages.values() for path in pipeline.outs(stage)]


def _take_ours(results: list[str]) -> None:
    """Make the results those of HEAD. What it does not have, and is in conflict, is removed."""
    if ours := _listed("ls-tree", "-r", "--name-only", "HEAD", "--", *results):
        git.read("checkout", "HEAD", "--", *ours)
    others = _listed("diff", "--name-only", "--diff-filter=U", "--relative", "--", *results, seed_runs.PATH)
    if others := [path for path in others if path not in ours]:
        git.read("rm", "--quiet", "--force", "--", *others)


def _remove_what_no_stage_makes(results: list[str]) -> None:
    """Remove the outs of stages that the merged dvc.yaml no longer has, and the spread over seeds, which is of one side."""
    made = _outs(pipeline.stages())
    gone = [path for path in results if path not in made and path.startswith(("metrics/", "plots/"))]
    git.read("rm", "-r", "--quiet", "--force", "--ignore-unmatch", "--", *gone, seed_runs.PATH)


def _refuse_loss() -> None:
    """Refuse if DVC's checkout would remove files that are of neither side, as images are that were copied in and not added.

    Raises:
        UserError: It would, or DVC cannot be used here.
    """
    status = json.loads(dvc.read("data", "status", "--granular", "--json"))
    here, of_merge = (_changed(status.get(kind, {})) for kind in ("uncommitted", "committed"))
    if lost := sorted(here["added"] - of_merge["deleted"] | here["modified"] - of_merge["modified"]):
        raise UserError(
            f"{lost[0]!r} and {len(lost) - 1} other files are of neither side, and the merge would remove them: `dvc add` and "
            "`git add` what they lie in, or move them away, then say `darkroom merge` without a branch"
        )


def _changed(status: dict[str, Any]) -> dict[str, set[str]]:
    """The files that were added, modified and deleted, of a part of `dvc data status`. Hidden files are left out."""
    renamed = status.get("renamed", [])
    found = {kind: set(status.get(kind, [])) for kind in ("added", "modified", "deleted")}
    found["added"] |= {pair["new"] for pair in renamed}
    found["deleted"] |= {pair["old"] for pair in renamed}
    return {
        kind: {path for path in paths if not (path.endswith("/") or Path(path).name.startswith("."))}
        for kind, paths in found.items()
    }


def _tracking(paths: list[str]) -> bool:
    return any(path.endswith(".dvc") for path in paths)


def _listed(*arguments: str) -> list[str]:
    """The paths that a command of Git prints."""
    command, *others = arguments
    return sorted(set(filter(None, git.read(command, "-z", *others).split("\0"))))
