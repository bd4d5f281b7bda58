"""Cross-validation: each fold of train and val is held out once, and judged by models that were trained without it.

A fold is a DVC experiment in which the stage split holds the fold out of train and val (`split.fold`). The other images keep
their sides. So val still chooses the epoch and the temperature, and the images that judge a model decide nothing about it. Images
of test are not read.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.data.folds import HELD_OUT, Fold
from darkroom.data.layout import TRACKED
from darkroom.data.manifest import Row
from darkroom.evaluation import means, metrics, said
from darkroom.evaluation.means import Mean
from darkroom.evaluation.titles import METRICS
from darkroom.experiments import answers, clone, members
from darkroom.experiments.answers import Answers, Asked
from darkroom.experiments.clone import Clone
from darkroom.experiments.members import Member
from darkroom.networks import checkpoint
from darkroom.stages import evaluate
from darkroom.system import dvc, files, git, params, pipeline
from darkroom.system.errors import UserError
from darkroom.system.trees import leaves, value_at

TABLE = Path("report/crossval.csv")
TITLES = {"accuracy": METRICS["accuracy"], "balanced_accuracy": "balanced accuracy", "macro_f1": METRICS["macro_f1"]}
TITLES |= {"auroc": METRICS["auroc"], "log_loss": "log loss", "ece": METRICS["ece"]}
DIVIDE_NOTHING = ("split.fold", "split.layout")  # the first is set for each fold, the other is how images are stored
LOWER_IS_BETTER = ("log_loss", "ece")


@dataclass(frozen=True)
class Plan:
    """What is cross-validated.

    Attributes:
        folds: Their number.
        repeats: How many divisions into folds there are. Each but the first has another seed of the training, too.
        stages: The training stages; those of all models of the project where there are none.
        settings: Params that differ from those of HEAD, each as KEY=VALUE.
        against: A revision with which HEAD is compared, or None.
    """

    folds: int
    repeats: int
    stages: Sequence[str]
    settings: Sequence[str]
    against: str | None

    def every(self) -> list[Fold]:
        """The folds of all divisions."""
        return [
            Fold(number, self.folds, repeat + 1)
            for repeat in range(self.repeats)
            for number in range(1, self.folds + 1)
        ]


@dataclass(frozen=True)
class Judged:
    """What the model of a fold says about the N images of the fold whose class it knows.

    Attributes:
        fold: The fold.
        rows: N rows of the manifest.
        labels: int64 (N,), indices into `classes`.
        probabilities: float (N, K). 0 for a class that the model does not know.
        classes: Those of all folds.
        trained: The number of images that it was trained on.
        unknown: The number of images of the fold whose class it does not know, because train has none.
    """

    fold: Fold
    rows: list[Row]
    labels: np.ndarray
    probabilities: np.ndarray
    classes: list[str]
    trained: int
    unknown: int


Results = dict[str, list[Judged]]  # by model, of each fold


def crossval(plan: Plan, jobs: int | None) -> str:
    """Train and judge each fold, write `TABLE`, and return the figures as Markdown.

    The experiments are kept, and those that exist already are not run again.

    Args:
        plan: What is cross-validated.
        jobs: That of `members.run`.

    Raises:
        UserError: A run failed, a name is unknown, or HEAD cannot be compared with the other revision.
    """
    changed = {setting.lstrip("+").partition("=")[0] for setting in plan.settings}
    if own := sorted(changed & {"run.seed", "split.fold"}):
        raise UserError(f"--set {own[0]}: the folds and repeats set it themselves; leave it out")
    with clone.of_head() as head:
        models, bins = _models(plan, head)
        if plan.against is not None:
            _refuse_against(plan, head.commit, models)
        found = _results(plan, head, models, plan.settings, jobs)
    if plan.against is None:
        write(found)
        return as_markdown(found, bins)
    with clone.of(dvc.commit(plan.against)) as other:
        base = _results(plan, other, models, (), jobs)
    write(found)
    refuse_other_images(base, found, plan.against)
    return f"{as_markdown(found, bins)}\n{difference_as_markdown(base, found, bins, plan.against)}"


def _refuse_against(plan: Plan, head: str, models: Sequence[str]) -> None:
    """Refuse, before anything trains, a revision with which HEAD cannot be compared.

    Args:
        plan: What is cross-validated.
        head: The commit of HEAD.
        models: Those that are trained.

    Raises:
        UserError: There is no such revision, it is HEAD with the same params, it has other images or another split, or it lacks
            a training.
    """
    other = dvc.commit(str(plan.against))
    if head == other and not plan.settings:
        raise UserError(f"--against {plan.against} is HEAD itself: name another revision, or change a param by --set")
    if git.show(head, TRACKED.as_posix()) != git.show(other, TRACKED.as_posix()):
        raise UserError(
            f"--against {plan.against}: its {TRACKED} tracks other images than that of HEAD, and only revisions with the same "
            "images can be compared"
        )
    trainings = _of_commit(other, pipeline.PIPELINE, "stages")
    if missing := [stage for stage in map(checkpoint.stage, models) if stage not in trainings]:
        raise UserError(
            f"--against {plan.against}: its {pipeline.PIPELINE} has no {missing[0]}: name the trainings that both have by --stage"
        )
    here, there = _split(head, plan.settings), _split(other)
    # A key that one of them lacks is of another version of Darkroom, and says nothing about the images.
    if differing := [key for key in there if key in here and here[key] != there[key]]:
        raise UserError(
            f"--against {plan.against}: its {differing[0]} is another one than that of HEAD, and only the same section split "
            "gives the same folds: give both the same, or name another revision"
        )


def _split(commit: str, settings: Sequence[str] = ()) -> dict[str, Any]:
    """What decides, in the section split of a commit, which images are held out together, by dotted key; with `settings`."""
    found = dict(leaves(_of_commit(commit, params.PARAMS, "split"), "split"))
    for setting in settings:
        key, _, text = setting.lstrip("+").partition("=")
        if key.startswith("split."):
            with contextlib.suppress(UserError):  # DVC will say what it cannot read
                found |= dict(leaves(params.parse(text), key))
    return {key: value for key, value in found.items() if key not in DIVIDE_NOTHING}


def _of_commit(commit: str, path: Path, key: str) -> dict[str, Any]:
    """What a YAML file of a commit has under `key`; {} if it has nothing of the kind."""
    found = value_at(params.parse((git.show(commit, str(path)) or b"{}").decode(), f"{path} of {commit[:7]}"), key)
    return dict(found) if isinstance(found, dict) else {}


def _models(plan: Plan, head: Clone) -> tuple[list[str], int]:
    """The names of the models to train, and the bins of the calibration error."""
    with contextlib.chdir(head.root):
        known, bins = params.models(), params.load("evaluate", evaluate.Params).bins
    trained = {checkpoint.stage(name): name for name in known}
    if unknown := sorted(set(plan.stages) - trained.keys()):
        raise UserError(f"--stage {unknown[0]}: say {' or '.join(trained)}")
    return [trained[stage] for stage in trained if stage in plan.stages or not plan.stages], bins


def _results(plan: Plan, head: Clone, models: Sequence[str], settings: Sequence[str], jobs: int | None) -> Results:
    """Train each model on each fold of the commit of `head`, as far as it was not done, and judge it."""
    with contextlib.chdir(head.root):
        seed = params.load("run", params.Run).seed
    pairs = [(name, fold) for fold in plan.every() for name in models]
    runs = [_member(name, fold, head.commit, settings, seed) for name, fold in pairs]
    commits = members.run(runs, head, jobs)
    print(f"judging {len(commits)} models by the images that were held out from them", flush=True)
    answered = answers.of([Asked(commit, name, HELD_OUT) for (name, _), commit in zip(pairs, commits, strict=True)])
    known = {label for one in answered for label in one.classes}
    classes = sorted(known | {row.label for one in answered for row in one.rows})
    found: Results = {name: [] for name in models}
    for (name, fold), one in zip(pairs, answered, strict=True):
        found[name].append(_judged(fold, one, classes))
    return found


def _member(name: str, fold: Fold, commit: str, settings: Sequence[str], seed: int) -> Member:
    """The experiment that trains the model `name` without a fold. `seed` is that of params.yaml."""
    changed = f"-{files.sha256(repr(sorted(settings)).encode())[:7]}" if settings else ""
    repeat = f"-repeat-{fold.repeat}" if fold.repeat > 1 else ""
    title = f"fold-{fold.number}-of-{fold.total}{repeat}-{name}-{commit[:7]}{changed}"
    other_seed = [f"run.seed={seed + fold.repeat - 1}"] if fold.repeat > 1 else []
    about = f"fold {fold}, {name}"
    return Member(title, about, [*other_seed, *settings, f"++split.fold={fold}"], [checkpoint.stage(name)])


def _judged(fold: Fold, one: Answers, classes: list[str]) -> Judged:
    known = [index for index, row in enumerate(one.rows) if row.label in one.classes]
    rows = [one.rows[index] for index in known]
    probabilities = np.zeros((len(rows), len(classes)))
    places = [classes.index(label) for label in one.classes]
    probabilities[:, places] = np.reshape([one.probabilities[index] for index in known], (len(rows), len(places)))
    labels = np.array([classes.index(row.label) for row in rows], np.int64)
    return Judged(fold, rows, labels, probabilities, classes, one.trained, len(one.rows) - len(rows))


def figures(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> dict[str, float]:
    """Each figure of `TITLES`, as the stage evaluate computes those that it has, too; balanced accuracy is the mean recall."""
    of_model = said.from_probabilities(probabilities, labels)
    predicted = of_model.predicted
    return {
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(np.mean([(predicted[labels == k] == k).mean() for k in np.unique(labels)])),
        "macro_f1": metrics.macro_f1(labels, predicted),
        "auroc": metrics.auroc(labels, probabilities),
        **{name: of["value"] for name, of in evaluate.probability_errors(labels, of_model, bins).items()},
    }


def by_fold(judged: Sequence[Judged], bins: int) -> dict[str, np.ndarray]:
    """Each figure of each fold: float (J,)."""
    found = [figures(one.labels, one.probabilities, bins) for one in judged]
    return {name: np.array([each[name] for each in found]) for name in TITLES}


def pooled(judged: Sequence[Judged], bins: int) -> dict[str, float]:
    """Each figure of all images at once; the mean over the repeats."""
    repeats = sorted({one.fold.repeat for one in judged})
    found = []
    for repeat in repeats:
        own = [one for one in judged if one.fold.repeat == repeat]
        labels, probabilities = (
            np.concatenate([getattr(one, what) for one in own]) for what in ("labels", "probabilities")
        )
        found.append(figures(labels, probabilities, bins))
    return {name: float(np.mean([each[name] for each in found])) for name in TITLES}


def share(judged: Sequence[Judged]) -> float:
    """The images that judge a fold over those that it is trained on."""
    return sum(len(one.rows) for one in judged) / sum(one.trained for one in judged)


def as_markdown(results: Results, bins: int) -> str:
    """The figures: mean over folds with its interval, range, and pooled."""
    first = next(iter(results.values()))
    lines = [
        f"{_folds(first)}; {sum(len(one.rows) for one in first if one.fold.repeat == 1):,} images of train and val. Test was not "
        "looked at.",
        "",
        "| model | figure | mean over folds (95 %) | lowest to highest | all images at once |",
        "|---|---|---:|---:|---:|",
    ]
    for name, judged in results.items():
        at_once = pooled(judged, bins)
        for figure, values in by_fold(judged, bins).items():
            mean = means.over_folds(values, share(judged))
            spread = f"{values.min():.3f} to {values.max():.3f}"
            lines.append(f"| {name} | {TITLES[figure]} | {_shown(mean)} | {spread} | {at_once[figure]:.3f} |")
    if unknown := sum(one.unknown for one in first):
        lines += ["", f"{unknown} images were not judged: without their fold, train has no image of their class."]
    lines += [
        "",
        "The intervals take into account that the folds share images (Nadeau and Bengio 2003). These models learn from fewer "
        "images than one that is trained on the whole side train, which may therefore be a little better. "
        f"`{TABLE}` has the probabilities of each image.",
    ]
    return "\n".join(lines) + "\n"


def difference_as_markdown(base: Results, head: Results, bins: int, name: str) -> str:
    """The figures of HEAD minus those of the revision `name`, fold by fold, and the verdict at 5 %."""
    lines = [
        f"Compared with `{name}`, fold by fold:",
        "",
        "| model | figure | base | head | difference (95 %) | p | verdict |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for model, judged in head.items():
        before, after = by_fold(base[model], bins), by_fold(judged, bins)
        for figure, title in TITLES.items():
            change = means.over_folds(after[figure] - before[figure], share(judged))
            p = "" if np.isnan(change.p) else f"{change.p:.2g}"
            sides = f"{before[figure].mean():.3f} | {after[figure].mean():.3f}"
            lines.append(f"| {model} | {title} | {sides} | {_shown(change, '+')} | {p} | {_verdict(figure, change)} |")
    lines += [
        "",
        "p: the corrected resampled t test (Nadeau and Bengio 2003). Each verdict is a test of its own at 5 %.",
    ]
    return "\n".join(lines) + "\n"


def _folds(judged: Sequence[Judged]) -> str:
    repeats = max(one.fold.repeat for one in judged)
    return f"{judged[0].fold.total} folds" + (f", {repeats} times" if repeats > 1 else "")


def _shown(mean: Mean, sign: str = "") -> str:
    if np.isnan(mean.value):
        return "not defined"
    interval = "" if np.isnan(mean.low) else f" ({mean.low:{sign}.3f} to {mean.high:{sign}.3f})"
    return f"{mean.value:{sign}.3f}{interval}"


def _verdict(figure: str, change: Mean) -> str:
    if np.isnan(change.p) or change.p >= metrics.LEVEL:
        return "no evidence"
    return "better" if (change.value > 0) != (figure in LOWER_IS_BETTER) else "worse"


def refuse_other_images(base: Results, head: Results, name: str) -> None:
    """Refuse to compare two revisions whose folds differ.

    Raises:
        UserError: A fold holds other images, or labels, in base than in head.
    """
    for model, judged in head.items():
        for one, other in zip(judged, base[model], strict=True):
            here, there = ({(row.sha256, row.label) for row in side.rows} for side in (one, other))
            if here != there:
                raise UserError(
                    f"fold {one.fold} of '{name}' holds other images or labels than that of HEAD: only revisions with the same "
                    "images and the same section split can be compared"
                )


def write(results: Mapping[str, Sequence[Judged]]) -> None:
    """Write a row per model, repeat and image: what the model that was trained without the image says about it."""
    classes = next(iter(results.values()))[0].classes
    header = ["model", "repeat", "fold", "path", "sha256", "group", "actual", "predicted"]
    rows = [
        [
            name,
            one.fold.repeat,
            one.fold.number,
            row.path,
            row.sha256,
            row.group,
            row.label,
            classes[by_class.argmax()],
            *by_class,
        ]
        for name, judged in results.items()
        for one in judged
        for row, by_class in zip(one.rows, one.probabilities, strict=True)
    ]
    files.write_csv(TABLE, [*header, *(f"probability_{label}" for label in classes)], rows)
