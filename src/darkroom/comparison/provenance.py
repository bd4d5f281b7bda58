"""Where the results of a pull request come from, and their cost. Only what `darkroom verify` rebuilt is called rebuilt."""

import math
from pathlib import Path

from darkroom.comparison.compare import Comparison
from darkroom.evaluation import seed_runs
from darkroom.evaluation.titles import duration
from darkroom.results.revision import METRICS, PREDICTIONS, Revision
from darkroom.system import git, lock, rebuilt
from darkroom.system.errors import UserError
from darkroom.system.markdown import code
from darkroom.system.rebuilt import Rebuilt

ROUNDING = 1e-5  # by which an accuracy of six digits may differ
SAME = "rebuilt, the same bytes as those committed"
DIFFERENT = "**rebuilt, other bytes than those committed**"
COMMITTED = "taken as committed, not rebuilt"
ELSEWHERE = "not those committed: run here, or taken from a run-cache"


def load_record(path: Path, head: Revision) -> Rebuilt:
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


def in_words(record: Rebuilt | None, head: Revision) -> tuple[str, str]:
    """What `darkroom verify` has rebuilt: in a few words, and in a sentence. Nothing else is called rebuilt."""
    count = len(head.lock)
    if record is None:
        others = origins(record, head).get(ELSEWHERE, [])
        here = f" Those of {', '.join(others)} are not the committed ones." if others else ""
        return "nothing", f"no stage. The results are those that somebody committed, and were not checked.{here}"
    done = [stage for stage in head.lock if stage in record.stages]
    whose = f"commit {code(record.commit[:10])}"
    if different := record.different():
        figures = "rebuilt" if rebuilt.digest(head.lock) == record.rebuilt else "committed"
        stages = ", ".join(map(code, different))
        return (
            f"other bytes than those committed in {stages}",
            f"{len(done)} of {count} stages of {whose}. **{stages}: other bytes than those committed.** The figures below are "
            f"the {figures} ones.",
        )
    which = f"all {count} stages" if len(done) == count else f"{len(done)} of {count} stages"
    return f"{which}, the same bytes", f"{which} of {whose}, from the images on and without any cache: the same bytes."


def origins(record: Rebuilt | None, head: Revision) -> dict[str, list[str]]:
    """Where results come from -> the stages of the work tree whose results come from there, as code."""
    different = record.different() if record else {}
    committed = lock.parse((git.show(git.read("rev-parse", "HEAD"), str(lock.LOCK)) or b"stages: {}").decode())

    def origin(stage: str) -> str:
        if stage in different:
            return DIFFERENT
        if record and stage in record.stages:
            return SAME
        return COMMITTED if committed.get(stage) == head.lock[stage] else ELSEWHERE

    found: dict[str, list[str]] = {}
    for stage in head.lock:
        found.setdefault(origin(stage), []).append(code(stage))
    if head.runs:
        found["taken as it is, not rebuilt"] = [code(seed_runs.PATH)]
    return found


def markdown(record: Rebuilt | None, head: Revision) -> str:
    """Where the results of each stage in the work tree come from."""
    different = record.different() if record else {}
    lines = [f"Commit {code(git.read('rev-parse', 'HEAD'))}. The results of its stages are:", ""]
    lines += [f"- {how}: {', '.join(stages)}" for how, stages in origins(record, head).items()]
    lines += [f"    - {code(path)}: {code(how)}" for outs in different.values() for path, how in outs.items()]
    return "\n".join(lines)


def contradiction(head: Revision) -> str:
    """A sentence on accuracies in metrics/evaluate.json that are not those of the predictions; "" if all are."""
    wrong = []
    for model, of in head.predictions.said.items():
        said, found = (
            head.scores[model]["accuracy"]["value"],
            float((of.predicted == head.predictions.labels).mean()),
        )
        if not math.isclose(said, found, abs_tol=ROUNDING):
            wrong.append(f"{head.titles[model]}: {said:.3f}, by its predictions {found:.3f}")
    if not wrong:
        return ""
    return (
        f"**{code(METRICS)} contradicts {code(PREDICTIONS)}** (accuracy of {'; '.join(wrong)}): one of them was edited, or they "
        "are of two runs. The verdicts and the gate are about the predictions."
    )


def cost(comparison: Comparison, record: Rebuilt | None, head: Revision) -> str:
    """Which stages this change makes DVC run, and how long they take if `darkroom verify` has measured it."""
    stages = [stage for stage in head.lock if stage in comparison.stages]
    if not stages:
        return "### Cost\n\nNo stage has other inputs than in base, so that none has to run."
    listed = ", ".join(map(code, stages))
    lines = f"### Cost\n\nOther inputs, so that they run again: {listed} ({len(stages)} of {len(head.lock)} stages)."
    seconds = record.seconds if record else {}
    if not all(stage in seconds for stage in stages):
        return f"{lines} How long they take is not known: `darkroom verify --report` measures it."
    again, whole = (duration(sum(seconds.get(stage, 0) for stage in some)) for some in (stages, head.lock))
    return f"{lines} They took {again} where they were rebuilt; all stages took {whole}."
