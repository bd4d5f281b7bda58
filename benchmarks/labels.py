"""Does `darkroom labels` find wrong labels? Labels are flipped, and the truth is known.

    python benchmarks/labels.py [--seeds 5] [--data demo digits typefaces]

It needs cleanlab (`pip install -r requirements/extras/cleanlab.txt`). Of each data set 5 and 10 % of the labels are flipped: to
any other class, or all of a class to its most similar one, by the means of the true classes. Figures are means over the sets of
flips with 95 % intervals (Student's t). All contenders see the same features, computed once a data set.

    ours                 what `darkroom labels` does
    cleanlab             CleanLearning() with its defaults on the same features
    cleanlab on ours     cleanlab's defaults for flag and score, on our out-of-sample probabilities
    in-sample loss       the loss of a logistic regression (C = 10) that was trained on all the images that it ranks

Test images have other judges, too: the trained models, which have not seen them. For those of the demo, with 10 % of the test
labels flipped and no others, the loss by the committed models is measured, and by the mean of both. Called wrong is a label that
is not the most probable class. These models were trained on labels without flips.

At last the demo as it is: its annotators gave probabilities of 0, 1/3, 2/3 and 1. How many of the first 100 are doubtful ones?

That the score is the label's probability and not the margin to the next class, and that as many as confident learning counts are
suspects, those with the lowest scores, was decided after a look at the flips of seed 0 on the demo. The seeds here are 1 to 5.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cleanlab.classification import CleanLearning
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import common
import datasets
from darkroom.data import manifest
from darkroom.data.layout import RAW
from darkroom.data.manifest import Row
from darkroom.evaluation import metrics
from darkroom.inference import settings
from darkroom.labels import features, folds, ranking, session
from darkroom.results import revision

SHARES = (0.05, 0.10)
KINDS = ("random", "to the most similar class")
FIRST = 100  # suspects of the demo that are held to its annotators' doubts


class Data(NamedTuple):
    """A data set: its images, features (N, D), true labels (N,) and units (N,)."""

    rows: list[Row]
    features: np.ndarray
    labels: np.ndarray
    units: np.ndarray


class Judged(NamedTuple):
    """Of N labels: scores, the lower the more suspicious, and which are called wrong."""

    scores: np.ndarray
    flagged: np.ndarray


def main() -> None:
    """Print the tables, and write them to labels.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=["demo", "digits", "typefaces"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[list[str]] = []
    of_demo = ""
    header = ["flips", "by", "precision at n", "recall of flagged", "precision of flagged", "AUROC"]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.data:
            data = prepare(name, common.make_project(Path(folder) / name))
            rows += rows_of(name, data, options.seeds)
            if name == "demo":
                tested = common.table(header, test_rows(data, options.seeds), text=(0, 1))
                of_demo = f"\nTest images of the demo alone, all other labels true.\n\n{tested}\n{doubtful(data)}"
    common.publish(
        f"n = the number of flips; {options.seeds} sets of flips, mean (95 % interval). "
        f"{common.here('cleanlab', 'scikit-learn')}.\n\n{common.table(['data', *header], rows, text=(0, 1, 2))}{of_demo}\n"
        "`python benchmarks/labels.py`\n",
        options.results / "labels.md",
    )


def prepare(name: str, project: Path) -> Data:
    """Lay out and split the data set `name` in `project`, and compute its features."""
    datasets.lay_out(name, project / RAW)
    common.make_repository(project)
    common.run_stage("split", project)
    with chdir(project):
        rows = [row for row in manifest.read(None) if not row.reason]
        seen, units = features.of_images(rows, settings.RUN), session.units(rows)
    classes = sorted({row.label for row in rows})
    return Data(rows, seen, np.searchsorted(classes, [row.label for row in rows]), units)


def flips(data: Data, share: float, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is wrong, int (N,), and which these are, bool (N,)."""
    random, count = np.random.default_rng(seed), data.labels.max() + 1
    chosen = random.choice(len(data.labels), round(share * len(data.labels)), replace=False)
    labels, wrong = data.labels.copy(), np.zeros(len(data.labels), bool)
    wrong[chosen] = True
    if kind == "random":
        labels[chosen] = (labels[chosen] + random.integers(1, count, len(chosen))) % count
    else:
        labels[chosen] = most_similar(data)[labels[chosen]]
    return labels, wrong


def most_similar(data: Data) -> np.ndarray:
    """For each class the one whose mean features are nearest, int (K,)."""
    means = np.stack([data.features[data.labels == label].mean(0) for label in range(data.labels.max() + 1)])
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return apart.argmin(1)


def contenders(data: Data, labels: np.ndarray) -> dict[str, Judged]:
    """What each contender says of the labels."""
    probabilities, can_judge = folds.probabilities(data.features, labels, data.units)
    ours = ranking.rank(probabilities, can_judge, labels)
    with threadpool_limits(1):
        found = CleanLearning(seed=0, find_label_issues_kwargs={"n_jobs": 1}).find_label_issues(data.features, labels)
        in_sample = LogisticRegression(C=10).fit(data.features, labels).predict_proba(data.features)
    return {
        "ours": Judged(ours.scores, ours.suspects),
        "cleanlab": Judged(found["label_quality"].to_numpy(), found["is_label_issue"].to_numpy()),
        "cleanlab on ours": Judged(
            get_label_quality_scores(labels, probabilities), find_label_issues(labels, probabilities, n_jobs=1)
        ),
        "in-sample loss": by_loss(in_sample, labels),
    }


def by_loss(probabilities: np.ndarray, labels: np.ndarray) -> Judged:
    """Ranked by the loss of the label; called wrong where another class is more probable."""
    return Judged(probabilities[np.arange(len(labels)), labels], probabilities.argmax(1) != labels)


def figures(judged: Judged, wrong: np.ndarray) -> list[float]:
    """Precision at the number of flips, recall and precision of what is called wrong, AUROC of the ranking."""
    first = np.argsort(judged.scores, kind="stable")[: wrong.sum()]
    hits = (judged.flagged & wrong).sum()
    return [
        wrong[first].mean(),
        hits / wrong.sum(),
        hits / max(1, judged.flagged.sum()),
        float(roc_auc_score(wrong, -judged.scores)),
    ]


def rows_of(name: str, data: Data, seeds: int) -> Iterator[list[str]]:
    """A row for each kind of flips and contender."""
    for share in SHARES:
        for kind in KINDS:
            found: dict[str, list[list[float]]] = {}
            for seed in tqdm(range(1, seeds + 1), f"{name} {share:.0%} {kind}", disable=None, leave=False):
                labels, wrong = flips(data, share, kind, seed)
                for by, judged in contenders(data, labels).items():
                    found.setdefault(by, []).append(figures(judged, wrong))
            for by, of_seeds in found.items():
                yield [name, f"{share:.0%} {kind}", by, *(interval(values) for values in zip(*of_seeds, strict=True))]


def interval(values: Sequence[float]) -> str:
    """The mean and its 95 % interval, by Student's t."""
    mean = np.mean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else np.nan
    return f"{mean:.3f} ({mean - half:.3f} to {mean + half:.3f})" if half == half else f"{mean:.3f}"


def test_rows(data: Data, seeds: int) -> Iterator[list[str]]:
    """Rows for the test images of the demo, of which 10 % are flipped: ours, the committed models, and the mean of both."""
    test = np.array([row.split == "test" for row in data.rows])
    with chdir(common.ROOT):
        committed = revision.load(None).predictions
    at = {path: index for index, path in enumerate(committed.paths)}
    order = [at[row.path] for row in data.rows if row.split == "test"]
    models = {name: of.of(np.array(order)).numbers for name, of in committed.said.items()}
    for kind in KINDS:
        found: dict[str, list[list[float]]] = {}
        for seed in range(1, seeds + 1):
            labels, wrong = flips(data, 0.10, kind, seed)
            labels, wrong = np.where(test, labels, data.labels), wrong[test]
            ours = folds.probabilities(data.features, labels, data.units)[0][test]
            both = (ours + np.mean(list(models.values()), axis=0)) / 2
            for by, probabilities in {"ours": ours, **models, "mean of ours and the models'": both}.items():
                judged = by_loss(probabilities, labels[test])
                found.setdefault(by, []).append(figures(judged, wrong))
        for by, of_seeds in found.items():
            yield [f"10% {kind}", by, *(interval(values) for values in zip(*of_seeds, strict=True))]


def doubtful(data: Data) -> str:
    """How many of the first suspects of the demo are images of which its annotators were in doubt."""
    spec = find_spec("elpv_dataset")
    assert spec is not None
    assert spec.origin is not None
    lines = Path(spec.origin).with_name("data").joinpath("labels.csv").read_text(encoding="ascii").splitlines()
    given = {Path(name).name: float(probability) for name, probability, _ in map(str.split, lines)}
    doubted = np.array([0 < given[Path(row.path).name] < 1 for row in data.rows])
    found = ranking.rank(*folds.probabilities(data.features, data.labels, data.units), data.labels)
    first = np.argsort(found.scores, kind="stable")[:FIRST]
    base, among, flagged = (share_of(doubted[some]) for some in (slice(None), first, found.suspects))
    return (
        f"The demo as it is: of its {len(doubted):,} images {base} are doubtful (1/3 or 2/3), of the first {FIRST} suspects "
        f"{among}, {doubted[first].mean() / doubted.mean():.1f} times as many, and of all {found.suspects.sum()} suspects "
        f"{flagged} (Wilson's intervals). In the tables above doubtful labels count as right, which lowers the figures of "
        "precision on the demo.\n"
    )


def share_of(true: np.ndarray) -> str:
    """A share of images with Wilson's interval."""
    found = metrics.share(true, np.arange(len(true)))
    return f"{found['value']:.1%} ({found['low']:.1%} to {found['high']:.1%})"


if __name__ == "__main__":
    main()
