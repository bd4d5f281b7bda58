"""`darkroom merge`: two branches that were both trained become one, whose results are made anew.

Such branches differ in dvc.lock, metrics, plots and cards, and no mixture of the two is a result. This side's are taken, so that
they fit together, and `dvc repro` then makes those that the merged images, params and code change. Git could do so by a merge
driver, but the merge button of a forge knows none.
"""

from pathlib import Path

from darkroom.data.layout import TRACKED
from darkroom.system import dvc, git, lock, params, pipeline
from darkroom.system.errors import UserError

CARDS = "models/*.md"


def begin(revision: str | None) -> list[str]:
    """Merge `revision`, or go on with the merge that is under way (None), up to the point where the stages can run.

    Returns:
        What names the results, for `finish`. [] if there is nothing to make anew, because this branch has no commits of its own.

    Raises:
        UserError: No merge is under way, Git refuses to begin one, files that people write are in conflict, or the merged
            images are not to be had.
    """
    git.refuse_elsewhere()
    if revision is not None and not _begin(revision):
        return []
    if git.commit("MERGE_HEAD") is None:
        raise UserError("no merge is under way: say `darkroom merge BRANCH`")
    results = _results()
    _take_ours(results)
    if conflicts := _listed("diff", "--name-only", "--diff-filter=U", "--relative"):
        raise UserError(
            f"in conflict: {', '.join(conflicts)}: mend them and `git add` them, then say `darkroom merge` without a branch "
            "(`git merge --abort` goes back)"
        )
    if TRACKED.exists() and dvc.call("checkout", "--quiet", str(TRACKED)):
        raise UserError(
            f"the images of the merged {TRACKED} are not here, or data/raw has changes of its own: get the images by `dvc pull "
            f"{TRACKED}`, or track the changes by `dvc add data/raw`, then say `darkroom merge` without a branch"
        )
    return results


def finish(results: list[str]) -> None:
    """Tell Git of the results that were made, so that `git commit` ends the merge."""
    present = [path for path in results if Path(path).exists() or "*" in path]
    git.read("add", "--", *present)


def _begin(revision: str) -> bool:
    """Begin to merge. Return False if Git needs no commit for it.

    Raises:
        UserError: Git knows no such revision, or refuses: a merge is under way, or files would be overwritten.
    """
    if git.commit("MERGE_HEAD"):
        raise UserError("a merge is under way: say `darkroom merge` without a branch, or `git merge --abort`")
    commit = dvc.commit(revision)
    try:
        git.read("merge", "--no-commit", "-m", f"Merge {revision}", commit)
    except UserError:
        if git.commit("MERGE_HEAD") is None:  # else it has begun, with conflicts
            raise
    return git.commit("MERGE_HEAD") is not None


def _results() -> list[str]:
    """The paths of all that stages write and Git tracks, on either side, and of dvc.lock and the cards."""
    made = [str(lock.LOCK), CARDS]
    for revision in ("HEAD", "MERGE_HEAD"):
        content = git.show(revision, str(pipeline.PIPELINE))
        stages = params.parse(content.decode())["stages"] if content else {}
        made += [str(path) for stage in stages.values() for path in pipeline.outs(stage)]
    return list(dict.fromkeys(made))


def _take_ours(results: list[str]) -> None:
    """Make the results those of HEAD. What it does not have, and is in conflict, is removed."""
    if ours := _listed("ls-tree", "-r", "--name-only", "HEAD", "--", *_plain(results)):
        git.read("checkout", "HEAD", "--", *ours)
    if others := _listed("diff", "--name-only", "--diff-filter=U", "--relative", "--", *results):
        git.read("rm", "--quiet", "--force", "--", *others)


def _plain(results: list[str]) -> list[str]:
    """The results as paths, because ls-tree knows no patterns."""
    return [path for path in results if path != CARDS] + _listed("ls-files", "--", CARDS)


def _listed(*arguments: str) -> list[str]:
    """The paths that a command of Git prints, relative to the current folder."""
    command, *others = arguments
    return sorted(set(filter(None, git.read(command, "-z", *others).split("\0"))))
