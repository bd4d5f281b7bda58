"""`darkroom compare`, `data-diff` and `pr-report` on a real repository."""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from conftest import build_once, clone_of, commit, copy_of, darkroom, json_in, read_csv, read_json, run, vouch
from darkroom.comparison import (
    changed,
    compare,
    confusion,
    data_diff,
    gate,
    look_alikes,
    names,
    opening,
    over_seeds,
    pull_request,
    text,
    thumbnails,
    verdicts,
)
from darkroom.data.images import Folder
from darkroom.data.manifest import NOT_SPLIT, Row
from darkroom.evaluation import bootstrap, said
from darkroom.evaluation.said import from_probabilities
from darkroom.results import revision
from darkroom.results.revision import Predictions
from darkroom.stages import evaluate
from darkroom.system import dvc, lock, rebuilt
from darkroom.system.errors import UserError


@pytest.fixture(scope="session")
def branched(rebuilt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone without DVC's cache, whose branch `idea` trains otherwise, adds an image to test and relabels one there."""

    def build(folder: Path) -> None:
        clone = clone_of(rebuilt, folder / "clone")
        run("git", "switch", "-q", "-c", "idea", cwd=clone)
        rows = read_csv(clone / "plots/predictions.csv")
        classes = sorted({row["actual"] for row in rows})
        for row in rows:  # from scratch: always right, and sure of it; fine-tuned: as before
            if row["model"] == "scratch":
                row.update({f"probability_{label}": str(float(label == row["actual"])) for label in classes})
                row["predicted"] = row["actual"]
        path, label = f"{classes[0]}/new.png", classes[0]
        manifest = (clone / "data/manifest.csv").read_text()
        (clone / "data/manifest.csv").write_text(f"{manifest}{path},{label},test,,{'0' * 64},\n")
        first = {row["model"]: row for row in reversed(rows)}
        write_rows(
            clone / "plots/predictions.csv",
            [*rows, *({**row, "path": path, "actual": label} for row in first.values())],
        )
        vouch(clone, {"train_scratch": {"lr": 0.01}})

    return build_once(tmp_path_factory, "branched", build) / "clone"


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def branch(branched: Path, tmp_path: Path) -> Path:
    """A copy of `branched` to work in; its changes are not committed."""
    return copy_of(branched, tmp_path / "a clone")


def test_compare_says_what_is_better_and_what_is_not(branch: Path) -> None:
    printed = darkroom("compare", cwd=branch)  # where the branch left main, and the work tree
    count = len({row["path"] for row in read_csv(branch / "plots/predictions.csv")})
    assert (
        f"The test sets differ ({count - 1} and {count} images): what follows is about the {count - 1} images that both have"
        in printed
    )
    assert "only large differences can show" in printed
    assert "left out" not in printed
    assert "| from scratch | accuracy |" in printed
    assert "| **better** |" in printed
    assert "| fine-tuned | accuracy |" not in printed
    assert "The same predictions on both sides: fine-tuned." in printed
    assert printed.index("| added | `mono-defective` | test | 1 |") < printed.index("| from scratch | accuracy |")
    assert "| `train_scratch.lr` | `0.05` | `0.01` |" in printed
    assert "| added | `mono-defective` | test | 1 |" in printed

    commit(branch, "An idea")
    tree = json.loads(darkroom("compare", "main", "idea", "--json", cwd=branch))
    assert tree["images"] == {"base": count - 1, "head": count, "shared": count - 1, "unknown": 0, "groups": 0}
    verdicts = {(line["model"], line["metric"]): line["verdict"] for line in tree["headlines"]}
    assert {word for (model, _), word in verdicts.items() if model == "scratch"} == {"better"}
    assert {word for (model, _), word in verdicts.items() if model == "finetune"} == {"no evidence"}
    assert tree["flips"]
    assert all(flip["head"] == flip["actual"] for flip in tree["flips"])
    darkroom("compare", "main", "--html", "page.html", cwd=branch)
    page = (branch / "page.html").read_text()
    assert page.count('">now right</span>') == len(tree["flips"])
    assert page.count("data:image/webp;base64,") == len(tree["flips"]) + 1  # and the image that was added


def test_the_gate(branch: Path) -> None:
    commit(branch, "An idea")
    gate = ("--fail-on", "worse", "--max-drop", "accuracy=0.01", "--max-drop", "ece=0.01")
    darkroom("compare", "main", "idea", *gate, cwd=branch)
    printed = darkroom("compare", "idea", "main", *gate, cwd=branch, code=1)
    assert "scratch: the accuracy is worse (mid-p" in printed
    assert "scratch: accuracy is worse by" in printed
    assert "scratch: ece is worse by" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "Git knows no revision 'nowhere'"),
        (["main~1"], "'main~1' has no dvc.lock: it is from before"),
        (["main", "--fail-on", "better"], "the one thing to fail on is 'worse'"),
        (["main", "--max-drop", "accuracy"], "say a metric and how far it may fall"),
        (["main", "--max-drop", "accuracy=nan"], "say a metric and how far it may fall"),
        (["main", "--max-drop", "accuracy=-1"], "say a metric and how far it may fall"),
        (["main", "--max-drop", "beauty=1"], "this comparison has no such metric"),
    ],
)
def test_what_cannot_be_compared(branch: Path, arguments: list[str], message: str) -> None:
    printed = darkroom("compare", *arguments, cwd=branch, code=2)
    assert message in printed
    assert len(printed.strip().splitlines()) == 1


def test_images_of_a_renamed_class_are_left_out_and_said(branch: Path) -> None:
    for path in ("plots/predictions.csv", "data/manifest.csv"):
        old = (branch / path).read_text()
        (branch / path).write_text(old.replace("poly-defective", "poly-cracked"))
    vouch(branch)
    printed = darkroom("compare", "main", cwd=branch)
    assert "more that both have are left out, because one of the two does not know their class" in printed
    assert "macro F1" not in printed


@pytest.mark.fast
def test_few_images_have_tests_and_no_intervals() -> None:
    """12 images: a paired test keeps its level, a bootstrap interval does not."""
    labels = np.arange(12) % 3
    good, bad = (from_probabilities(np.eye(3)[predicted], labels) for predicted in (labels, (labels + 1) % 3))
    found = list(
        compare.compare_metrics("scratch", labels, np.arange(12), (good, bad), {"accuracy": compare.is_right}, 5)
    )
    assert {line.metric: line.verdict for line in found} == dict.fromkeys(
        ("accuracy", "macro_f1", "auroc", "ece"), "worse"
    )
    assert all(math.isnan(line.difference.low) for line in found)


@pytest.mark.fast
def test_a_drop_to_the_limit_is_no_more_than_the_limit() -> None:
    fallen = verdicts.Headline("scratch", "accuracy", bootstrap.Difference(1.0, 0.95, -0.2, 0.0), 1.0, "no evidence")
    own = compare.Comparison("a", "b", {}, {}, 0, [fallen], [], [], [], {}, [], [])
    assert not gate.failures(own, None, {"accuracy": 0.05, "scratch.accuracy": 0.05})
    assert gate.failures(own, None, {"accuracy": 0.049})
    assert gate.failures(own, None, {"scratch.accuracy": 0.049})
    with pytest.raises(UserError, match="no such metric"):
        gate.failures(own, None, {"finetune.accuracy": 0.05})


def add_model(project: Path, name: str, source: str) -> None:
    """Add the model `name`, which is always wrong, on the images of the model `source`."""
    rows = read_csv(project / "plots/predictions.csv")
    columns = [column for column in rows[0] if column.startswith("probability_")]
    added = []
    for row in rows:
        if row["model"] == source:
            wrong = next(column for column in columns if column != f"probability_{row['actual']}")
            said = {column: str(float(column == wrong)) for column in columns}
            added.append({**row, "model": name, "predicted": wrong.removeprefix("probability_"), **said})
    write_rows(project / "plots/predictions.csv", [*rows, *added])
    scores = read_json(project / "metrics/evaluate.json")
    scores[name] = {**scores[source], "title": f"the {name} one"}
    (project / "metrics/evaluate.json").write_text(json.dumps(scores))
    vouch(project)


def test_a_model_that_one_side_has_is_shown_and_not_compared(branch: Path) -> None:
    add_model(branch, "third", "scratch")
    commit(branch, "A third model")
    strict = ("--fail-on", "worse", "--max-drop", "accuracy=0.01", "--max-drop", "macro_f1=0.01")
    printed = darkroom("compare", "main", "idea", *strict, cwd=branch)
    assert "| the third one | accuracy |  | 0.000 |  |  | new in head |" in printed
    assert "| from scratch | accuracy |" in printed
    assert "the third one: " not in printed  # no image's verdict changed, for there was none

    printed = darkroom("compare", "idea", "main", *strict, cwd=branch, code=1)  # from scratch is worse there
    assert "| the third one | accuracy | 0.000 |  |  |  | only in base |" in printed
    assert "third:" not in printed
    tree = json.loads(darkroom("compare", "idea", "main", "--json", cwd=branch))
    assert {test["model"] for test in tree["gate"]} == {"scratch", "finetune"}
    assert {flip["model"] for flip in tree["flips"]} == {"scratch"}
    (line,) = [line for line in tree["headlines"] if (line["model"], line["metric"]) == ("third", "accuracy")]
    assert line["difference"] == {"base": 0.0, "head": None, "low": None, "high": None, "value": None}


def test_revisions_without_a_common_model_do_not_pass_the_gate(branch: Path) -> None:
    for path, start, end in (("plots/predictions.csv", "", ","), ("metrics/evaluate.json", '"', '"')):
        renamed = (branch / path).read_text()
        for name in ("scratch", "finetune"):
            renamed = renamed.replace(f"{start}{name}{end}", f"{start}{name}2{end}")
        (branch / path).write_text(renamed)
    vouch(branch)
    darkroom("compare", "main", cwd=branch)
    printed = darkroom("compare", "main", "--fail-on", "worse", cwd=branch, code=1)
    assert "base and head have no model in common" in printed


def test_a_manifest_of_another_run_is_refused(branch: Path) -> None:
    lines = (branch / "data/manifest.csv").read_text().splitlines(keepends=True)
    (branch / "data/manifest.csv").write_text("".join(lines[:-1]))
    printed = darkroom("compare", "main", cwd=branch, code=2)
    assert "are not of one run (1 of the test images differ)" in printed


def last_of_each_model(text: str) -> str:
    """The last row of each model in predictions.csv."""
    rows = {line.split(",", 1)[0]: line for line in text.splitlines()[1:]}
    return "".join(f"{line}\n" for line in rows.values())


@pytest.mark.parametrize(
    ("path", "spoil", "message"),
    [
        (
            "plots/predictions.csv",
            lambda text: text.replace("path,", "place,", 1),
            "predictions.csv of the work tree is damaged",
        ),
        (
            "plots/predictions.csv",
            lambda text: text.replace(",1.0,", ",nan,", 1),
            "predictions.csv of the work tree is damaged",
        ),
        (
            "plots/predictions.csv",
            lambda text: text.replace(",1.0,", ",0.5,", 1),
            "predictions.csv of the work tree is damaged",
        ),
        ("plots/predictions.csv", lambda text: text.replace("model,", "name,", 1), "was written by Darkroom 0.1"),
        (
            "plots/predictions.csv",
            lambda text: text + text.splitlines()[-1] + "\n",  # of one model alone
            "predictions.csv of the work tree is damaged",
        ),
        ("plots/predictions.csv", lambda text: text + last_of_each_model(text), "are not of one run"),
        (
            "plots/predictions.csv",
            lambda text: text.replace(".png,mono-functional,", ".png,mono-defective,"),
            "are not of one run",
        ),
        (
            "metrics/evaluate.json",
            lambda text: text.replace('"scratch"', '"other"'),
            "evaluate.json and plots/predictions.csv of the work tree are not of one run",
        ),
        (
            "data/manifest.csv",
            lambda text: text.replace("sha256", "digest", 1),
            "manifest.csv of the work tree is damaged",
        ),
        ("dvc.lock", lambda text: text[:0], "params.yaml or dvc.lock of the work tree is damaged"),
        ("dvc.lock", lambda text: f"<<<<<<< HEAD\n{text}", "params.yaml or dvc.lock of the work tree is damaged"),
        (
            "params.yaml",
            lambda text: text.replace("bins: 15", "bins: many"),
            "params.yaml or dvc.lock of the work tree is damaged",
        ),
        (
            "params.yaml",
            lambda text: text.replace("lr: 0.01", "lr: 0.02"),
            "are not those of its params (train_scratch): run `dvc repro`",
        ),
        (
            "plots/near_duplicates.csv",
            lambda text: text + "train-test,mono-defective/a.png,mono-defective/nowhere.png,9\n",
            "near_duplicates.csv of the work tree is damaged, or is not of one run",
        ),
        ("plots/roc.csv", lambda text: text + "x", "are not those of its plots/roc.csv: run `dvc repro`"),
        (
            "src/darkroom/networks/small_cnn.py",
            lambda text: text + "#\n",
            "are not those of its src/darkroom/networks/small_cnn.py",
        ),
        ("data/raw.dvc", lambda text: text.replace("md5: ", "md5: 0"), "are not those of its data/raw: run"),
    ],
)
def test_damaged_and_stale_results_are_refused(
    branch: Path, path: str, spoil: Callable[[str], str], message: str
) -> None:
    text = (branch / path).read_text()
    assert spoil(text) != text
    (branch / path).write_text(spoil(text))
    printed = darkroom("compare", "main", cwd=branch, code=2)
    assert message in printed
    assert len(printed.strip().splitlines()) == 1


def test_the_base_is_never_guessed(branch: Path, tmp_path: Path) -> None:
    """A gate that compares a branch with itself would let all pass."""
    commit(branch, "An idea")
    run("git", "clone", "-q", "--depth", "1", "-b", "idea", branch.as_uri(), tmp_path / "shallow", cwd=branch)
    printed = darkroom("compare", "--fail-on", "worse", cwd=tmp_path / "shallow", code=2)
    assert "name the BASE to compare with, or fetch more history" in printed


@pytest.mark.fast
def test_names_cannot_write_markdown() -> None:
    """A class or a file may bear any name: it must not call somebody, end a table's cell or become HTML."""
    row = Row("<b>`@all`|/1.png", "<b>`@all`|", "test", "0" * 64, "")
    text = data_diff.markdown([data_diff.Change("added", None, row)], "a|b", "c")
    assert "| added | `` <b>`@all`\\| `` | test | 1 |" in text
    assert "- `` <b>`@all`|/1.png `` (test)" in text


@pytest.mark.fast
def test_diff_names_each_change_once() -> None:
    def row(path: str, label: str, side: str, digest: str, reason: str = "") -> Row:
        return Row(path, label, side, digest, reason)

    old = [row("a/1", "a", "train", "s1"), row("a/2", "a", "test", "s2"), row("a/3", "a", "val", "s3"),
           row("a/4", "a", "val", "s4"), row("a/6", "a", "val", "s6"), row("a/7", "a", "val", "s7")]  # fmt: skip
    new = [row("a/1", "a", "train", "s1"), row("b/2", "b", "test", "s2"), row("a/33", "a", "val", "s3"),
           row("a/4", "a", "train", "s4"), row("a/5", "", "left out", "", "is empty"), row("a/6", "a", "val", "other"),
           row("a/7", "a", "val", "s7"), row("a/8", "a", "val", "s7")]  # fmt: skip
    kinds = [(one.kind, (one.new or one.old).path) for one in data_diff.diff(old, new)]  # type: ignore[union-attr]
    assert kinds == [
        ("added", "a/6"),
        ("added", "a/8"),
        ("removed", "a/6"),
        ("relabelled", "b/2"),
        ("moved", "a/4"),
        ("renamed", "a/33"),
        ("left out", "a/5"),
    ]


@pytest.mark.fast
def test_the_copy_that_was_renamed_is_told_from_the_one_that_was_removed() -> None:
    """What one does after a report of the same bytes under two labels."""
    old = [Row("a/1", "a", "train", "s", ""), Row("b/2", "b", "train", "s", "")]
    new = [Row("b/3", "b", "train", "s", "")]
    kinds = [(one.kind, one.old.path if one.old else "") for one in data_diff.diff(old, new)]
    assert kinds == [("removed", "a/1"), ("renamed", "b/2")]


@pytest.mark.fast
def test_of_copies_of_two_classes_the_one_with_the_file_name_was_relabelled() -> None:
    old = [Row("a/copy", "a", "train", "s", ""), Row("b/2", "b", "train", "s", "")]
    (first, second) = data_diff.diff(old, [Row("c/2", "c", "train", "s", "")])
    assert (first.kind, first.old, second.kind, second.old) == ("removed", old[0], "relabelled", old[1])


@pytest.mark.fast
def test_a_copy_that_is_not_split_yet_is_paired_by_its_label() -> None:
    """Its side is unknown, which is neither a move nor a reason to pair it with a copy of another class."""
    old = [Row("a/1", "a", "train", "s", ""), Row("b/2", "b", "train", "s", ""), Row("b/4", "b", "test", "t", "")]
    new = [Row("b/3", "b", NOT_SPLIT, "s", ""), Row("b/4", "b", NOT_SPLIT, "t", "")]
    kinds = [(one.kind, one.old.path if one.old else "") for one in data_diff.diff(old, new)]
    assert kinds == [("removed", "a/1"), ("renamed", "b/2")]


@pytest.mark.fast
def test_all_changes_can_be_listed() -> None:
    changes = [data_diff.Change("added", None, Row(f"a/{i}", "a", "val", str(i), "")) for i in range(77)]
    some, every = (data_diff.markdown(changes, "x", "y", listed) for listed in (data_diff.LISTED, None))
    assert [text.count("\n- `a/") for text in (some, every)] == [20, 77]
    assert "- and 57 more; `darkroom data-diff --all` lists all" in some
    assert "more" not in every


@pytest.mark.fast
def test_thumbnails_are_of_every_kind_of_change() -> None:
    def some(kind: str, count: int) -> list[data_diff.Change]:
        rows = [Row(f"a/{index:04d}", "a", "train", "s", "") for index in range(count)]
        return [data_diff.Change(kind, row if kind != "added" else None, row) for row in rows]

    changes = [*some("added", 700), *some("relabelled", 3), *some("moved", 60)]
    chosen = thumbnails.choose(changes, 48, lambda one: one.kind)
    assert Counter(one.kind for one in chosen) == {"added": 23, "relabelled": 3, "moved": 22}
    assert chosen == [one for one in changes if one in chosen]
    assert int(data_diff.current(chosen[22]).path[2:]) > 600  # not only the first ones
    assert thumbnails.choose(changes[:5], 48, lambda one: one.kind) == changes[:5]


@pytest.mark.fast
def test_captions_name_the_image() -> None:
    name = "mono-defective/a-very-long-name-of-a-camera-0013.png"
    old, new = Row(name, "a", "train", "s", ""), Row("b/2", "b", "test", "s", "")
    assert thumbnails.shortened(name) == "mono-defective...camera-0013.png"
    assert len(thumbnails.shortened(name)) == thumbnails.NAME
    assert thumbnails.shortened("a\nb") == "'a\\nb'"
    assert (
        thumbnails.caption(data_diff.Change("removed", old, None))
        == "removed (train)\nmono-defective...camera-0013.png"
    )
    for kind in ("relabelled", "moved", "renamed"):
        assert "b/2" in thumbnails.caption(data_diff.Change(kind, old, new))
        assert "test" in thumbnails.caption(data_diff.Change(kind, old, new))


def test_a_change_of_the_images_is_seen_before_the_split(digits: Path) -> None:
    """In the folder alone, after `dvc add`, and after `dvc repro split`, which gives the new images a side."""
    assert "No image differs" in darkroom("data-diff", cwd=digits)
    raw, rows = digits / "data/raw", read_csv(digits / "data/manifest.csv")
    relabelled, renamed, removed, changed = [row for row in rows if row["label"] == "digit-1"][:4]
    for number in range(30):
        Image.new("L", (32, 32), 8 * number).save(raw / f"digit-0/new-{number:02d}.png")
    (raw / relabelled["path"]).rename(raw / "digit-2/was-1.png")
    (raw / renamed["path"]).rename(raw / "digit-1/another-name.png")
    (raw / removed["path"]).unlink()
    Image.new("L", (32, 32), 255).save(raw / changed["path"])
    (raw / "digit-0/broken.png").write_bytes(b"no image")

    def check(printed: str) -> None:
        assert "`data/manifest.csv` is older than `data/raw`: run `dvc add data/raw` and `dvc repro split`" in printed
        assert "| added | `digit-0` | not split yet | 30 |" in printed
        assert "**added** (31)" in printed
        assert "**removed** (2)" in printed
        assert f"- `{removed['path']}` ({removed['split']})" in printed
        assert f"({relabelled['split']}) to `digit-2/was-1.png` (not split yet): `digit-1` to `digit-2`" in printed
        assert f"- `{renamed['path']}` to `digit-1/another-name.png` (not split yet)" in printed
        assert "- `digit-0/broken.png` is not an image" in printed
        assert "**moved**" not in printed

    check(darkroom("data-diff", cwd=digits))
    run("dvc", "add", "-q", "data/raw", cwd=digits)
    printed = darkroom("data-diff", "--all", "--picture", "changes.png", cwd=digits)
    check(printed)
    assert "`digit-0/new-29.png`" in printed
    assert "`changes.png`: 35 of 35 changed images." in printed
    assert Image.open(digits / "changes.png").width > 900

    run("dvc", "repro", "-q", "split", cwd=digits)
    printed = darkroom("data-diff", cwd=digits)
    assert "**added** (31)" in printed
    assert "not split yet" not in printed
    assert "is older than" not in printed


def test_an_old_manifest_without_the_images_is_refused(measured: Path, tmp_path: Path) -> None:
    clone = clone_of(measured, tmp_path / "a clone")
    assert "No image differs" in darkroom("data-diff", cwd=clone)
    tracked = clone / "data/raw.dvc"
    tracked.write_text(tracked.read_text().replace("md5: ", "md5: 0", 1))
    printed = darkroom("data-diff", cwd=clone, code=2)
    assert "data/manifest.csv is older than data/raw.dvc, and data/raw is missing" in printed


def stages_that_are(how: str, report: str) -> set[str]:
    """The stages of which a report says that their results are this."""
    return {
        name
        for line in re.findall(rf"^- {re.escape(how)}: (.*)$", report, re.M)
        for name in re.findall(r"`(.*?)`", line)
    }


def first_lines(project: Path, *options: str, code: int = 0) -> str:
    """The first 15 lines of the report on the committed work tree of `project`, compared with main."""
    darkroom("pr-report", "main", "--fail-on", "worse", *options, cwd=project, code=code)
    return "\n".join((project / "report/report.md").read_text().splitlines()[:15])


def perturb(project: Path, model: str, wrong_in: str = "") -> None:
    """Change a model's probabilities a little. Or make it wrong, for all images of the class `wrong_in`."""
    rows = read_csv(project / "plots/predictions.csv")
    columns = [column for column in rows[0] if column.startswith("probability_")]
    for row in rows:
        if row["model"] == model and row["actual"] == wrong_in:
            said = next(column for column in columns if column != f"probability_{wrong_in}")
            row.update({column: str(float(column == said)) for column in columns})
        elif row["model"] == model and not wrong_in:
            values = np.array([float(row[column]) for column in columns]) * 0.9 + 0.1 / len(columns)
            row.update({column: f"{value:.6f}" for column, value in zip(columns, values, strict=True)})
    write_rows(project / "plots/predictions.csv", rows)


def vouched_for(project: Path) -> str:
    """Write a record of a rebuild that gave the same bytes, in which training from scratch took five minutes. Return its name."""
    stages = lock.read(project)
    digest = rebuilt.digest(stages)
    same = {name: dict.fromkeys(lock.outs(stage), "") for name, stage in stages.items()}
    seconds = {**dict.fromkeys(stages, 20.0), "train_scratch": 300.0}
    found = rebuilt.Rebuilt(commit="0" * 40, committed=digest, rebuilt=digest, stages=same, seconds=seconds)
    (project / "found.json").write_text(found.model_dump_json())
    return "found.json"


@pytest.fixture
def idea(rebuilt: Path, tmp_path: Path) -> Path:
    """A clone on the branch `idea`, without images."""
    clone = clone_of(rebuilt, tmp_path / "a clone")
    run("git", "switch", "-q", "-c", "idea", cwd=clone)
    return clone


def test_the_first_lines_on_a_param(idea: Path) -> None:
    """What changed, better or worse and whether that is chance, which class suffers, was it rebuilt."""
    perturb(idea, "finetune")
    vouch(idea, {"train_finetune": {"lr": 0.0004}})
    commit(idea, "A higher rate")
    text = first_lines(idea)
    first, _, *items = text.splitlines()
    assert first.startswith("**`train_finetune.lr` 0.0002 → 0.0004: no evidence that fine-tuned differs (accuracy ")
    assert ", p = 1); from scratch: the same predictions. Gate: open. Rebuilt: nothing.**" in first
    assert "- **Classes:** none changed by more than chance." in items
    number = run("git", "rev-parse", "--short=10", "HEAD", cwd=idea).strip()
    assert any(item.startswith(f"- **Compared:** `idea` (`{number}`) with `main` (`") for item in items)
    assert "- **Rebuilt:** no stage." in text
    assert not re.search("[0-9a-f]{11}", text)
    report = (idea / "report/report.md").read_text()
    assert "| from scratch |" not in report
    assert report.count("![confusion_finetune](confusion_finetune.png)") == 1
    assert Image.open(idea / "report/confusion_finetune.png").width > 600
    assert "How long they take is not known" in report


def test_the_first_lines_on_images(idea: Path) -> None:
    manifest = read_csv(idea / "data/manifest.csv")
    first, second, third = [row for row in manifest if row["split"] == "train" and row["label"] == "mono-defective"][:3]
    first.update(label="mono-functional", path="mono-functional/was-defective.png")
    kept = [row for row in manifest if row is not second]
    new = [{**third, "path": f"mono-defective/new-{number}.png", "sha256": str(number) * 64} for number in range(3)]
    write_rows(idea / "data/manifest.csv", [*kept, *new])
    perturb(idea, "scratch")
    perturb(idea, "finetune")
    vouch(idea)
    commit(idea, "More images")
    (idea / "report").mkdir()
    (idea / "report/index.html").touch()
    text = first_lines(idea, "--rebuilt", vouched_for(idea))
    assert text.startswith(
        "**3 images added, 1 removed, 1 relabelled: no evidence that from scratch differs (accuracy "
    )
    assert "; no evidence that fine-tuned differs (" in text
    assert "Gate: open. Rebuilt: all 6 stages, the same bytes.**" in text
    assert (
        "3 images added (`mono-defective` 3), 1 removed (`mono-defective` 1), 1 relabelled (`mono-defective` to `mono-f"
        in text
    )
    assert "- **Rebuilt:** all 6 stages of commit `0000000000`" in text
    assert "- **Page:** `index.html` in the artifact `report`" in text
    report = (idea / "report/report.md").read_text()
    assert report.index("### Images") < report.index("### The two trained models") < report.index("<details>")
    assert "This machine has none of these images" in report
    assert "![changes]" not in report


def test_the_first_lines_on_a_worse_model(idea: Path) -> None:
    run("git", "switch", "-q", "main", cwd=idea)
    rows = read_csv(idea / "plots/predictions.csv")
    for row in rows:  # from scratch: always right in base
        if row["model"] == "scratch":
            said = {key: str(float(key == f"probability_{row['actual']}")) for key in row if key.startswith("probab")}
            row.update(said)
    write_rows(idea / "plots/predictions.csv", rows)
    vouch(idea)
    commit(idea, "Base")
    run("git", "switch", "-q", "-C", "idea", cwd=idea)
    perturb(idea, "scratch", "poly-functional")
    vouch(idea, {"train_scratch": {"lr": 0.5, "momentum": 0.0, "epochs": 4}})
    commit(idea, "Bad luck")
    text = first_lines(idea, "--rebuilt", vouched_for(idea), code=1)
    assert text.startswith("**3 params (`train_scratch` 3): from scratch is worse (accuracy ")
    assert (
        "), most in `poly-functional`; fine-tuned: the same predictions. Gate: closed. Rebuilt: all 6 stages, the sa"
        in text
    )
    assert re.search(
        r"- \*\*from scratch:\*\* \*\*worse\*\*, by more than chance: accuracy 1\.000 → 0\.\d+ \(p [=<] 0\.0", text
    )
    assert "from scratch is worse by more than chance in `poly-functional` (" in text
    assert "- **The gate is closed.** scratch: the accuracy is worse (mid-p" in text
    report = (idea / "report/report.md").read_text()
    assert "Other inputs, so that they run again: `train_scratch` (1 of 6 stages). They took 5 min where" in report
    assert "; all stages took 7 min." in report


def test_the_first_lines_on_a_new_model(idea: Path) -> None:
    add_model(idea, "third", "scratch")
    commit(idea, "A third model")
    text = first_lines(idea)
    assert text.startswith("**New model the third one: worse than ")
    assert "(accuracy 0.000 against 0." in text
    assert ": the same predictions. Gate: open. Rebuilt: nothing.**" in text
    assert "the third one is weakest in `mono-defective` (0.000 of its images are right)." in text


def test_the_images_of_a_pull_request_are_pictures(copy: Path) -> None:
    """A model's flips, now wrong before now right. In base's removed image too, which DVC's cache has."""
    run("git", "switch", "-q", "-c", "idea", cwd=copy)
    manifest = read_csv(copy / "data/manifest.csv")
    removed = next(row for row in manifest if row["split"] == "train")
    write_rows(copy / "data/manifest.csv", [row for row in manifest if row is not removed])
    (copy / "data/raw" / removed["path"]).unlink()
    perturb(copy, "scratch", "poly-functional")
    vouch(copy)
    commit(copy, "One less")
    darkroom("pr-report", "main", cwd=copy)
    report = (copy / "report/report.md").read_text()
    assert "1 of 1 changed images:\n\n![changes](changes.png)\n" in report
    assert "images that changed between right and wrong:\n\n![flips_scratch](flips_scratch.png)\n" in report
    colours = [
        set(Image.open(copy / f"report/{name}.png").convert("L").tobytes()) for name in ("changes", "flips_scratch")
    ]
    assert all(len(shades) > 100 for shades in colours)  # no grey square
    assert not (copy / "report/flips_finetune.png").exists()


def test_code_pins_and_files_that_changed_are_named(idea: Path) -> None:
    source, pins = idea / "src/darkroom/networks/small_cnn.py", idea / "requirements/models.txt"
    source.write_text(f"{source.read_text()}\n# A note.\n")
    pins.write_text(re.sub("^timm==.*$", "timm==0.0.1", pins.read_text(), flags=re.M))
    vouch(idea)
    vouch(idea)  # the results name the files, whose digests the first call has written
    printed = darkroom("compare", "main", cwd=idea)
    assert re.search(
        r"^\*\*`timm` [\d.]+ → 0\.0\.1; code of `evaluate`, `train_scratch`, `tsne`: from scratch, fine-t",
        printed,
        re.M,
    )
    assert "code of `evaluate`, `train_scratch`, `tsne` (`src/darkroom/networks/small_cnn.py`)." in printed


@pytest.mark.fast
def test_flips_are_of_every_model_and_both_kinds() -> None:
    flips = [
        compare.Flip(model, f"{model}/{number}", "a", "b" if right else "a", "a" if right else "b")
        for model, counts in (("one", (40, 3)), ("two", (2, 1)))
        for right, count in zip((False, True), counts, strict=True)
        for number in range(count)
    ]
    shown = text.interleaved(flips, 8)
    assert [(one.model, one.head == one.actual) for one in shown[:4]] == [
        ("one", False), ("two", False), ("one", True), ("two", True),
    ]  # fmt: skip
    assert len(shown) == 8
    assert sorted(map(repr, text.interleaved(flips, 100))) == sorted(map(repr, flips))


@pytest.mark.fast
def test_confusion_before_and_now() -> None:
    """Against counts by hand. With many classes only the cells that changed are listed."""

    def shared(count: int) -> compare.Shared:
        labels = np.arange(count)
        base = from_probabilities(np.eye(count), labels)
        head = from_probabilities(np.eye(count)[[1, *labels[1:]]], labels)
        classes = [f"c|{index}" for index in range(count)]
        rows = (labels, labels)
        return compare.Shared(rows, 0, classes, labels, {"m": base}, {"m": head})

    table = confusion.markdown(shared(2), "m").splitlines()
    assert table[2:] == ["| `c\\|0` | 1 → 0 | 0 → 1 |", "| `c\\|1` | 0 | 1 |"]
    assert confusion.markdown(shared(9), "m").splitlines() == [
        "- `c\\|0` called `c\\|0`: 1 → 0",
        "- `c\\|0` called `c\\|1`: 0 → 1",
    ]


@pytest.mark.fast
def test_names_in_the_opening_cannot_write_markdown() -> None:
    hostile = "<b>`@all`|](//x)"
    row = Row(f"{hostile}/1", hostile, "test", "0" * 64, "")
    fall = verdicts.ClassChange("m", hostile, 30, 0.9, 0.1, 0.001)
    line = verdicts.Headline("m", "accuracy", bootstrap.Difference(0.9, 0.5, math.nan, math.nan), 0.001, "worse")
    found = compare.Comparison(
        "a" * 40, hostile, {"m": hostile}, {"base": 30, "head": 30, "shared": 30, "unknown": 0, "groups": 0}, 0, [line],
        [fall], [], [], {f"split.{hostile}": (None, f'"{hostile}"')}, [data_diff.Change("added", None, row)], [],
        over_seeds=over_seeds.OverSeeds("none"), changed=changed.Changed({hostile: [hostile]}, {}, [hostile], [hostile]),
    )  # fmt: skip
    shown = names.for_markdown(found)
    html = MarkdownIt("commonmark").enable("table").render(f"{opening.line(shown)}\n\n{opening.explained(shown)}\n")
    assert set(re.findall("<(\\w+)", html)) == {"p", "strong", "code", "ul", "li"}
    assert "@all" not in re.sub("<code>.*?</code>", "", html)
    assert shown.base == "a" * 10


def test_the_report_of_a_pull_request(rebuilt: Path, tmp_path: Path) -> None:
    """Between two branches of a repository, on a clone without DVC's cache."""
    clone = clone_of(rebuilt, tmp_path / "a clone")
    run("git", "switch", "-q", "-c", "idea", cwd=clone)
    metrics = clone / "metrics/evaluate.json"
    metrics.write_text(metrics.read_text().replace('"count": ', '"count": 1'))
    for name in ("tsne", "confusion"):
        with (clone / f"plots/{name}.png").open("ab") as stream:
            stream.write(b"another chart")
    vouch(clone, {"evaluate": {"bins": 5}})
    run("git", "commit", "-q", "-am", "Fewer bins", cwd=clone)
    darkroom("pr-report", "main", "--pictures", "https://example.org/", cwd=clone)
    text = (clone / "report/report.md").read_text()
    for part in (
        "Both were tested on the same",
        "| `evaluate.bins` | `15` | `5` |",
        "![tsne](https://example.org/plots/tsne.png)",
        "![confusion](https://example.org/plots/confusion.png)",
    ):
        assert part in text
    assert "| `metrics/evaluate.json` | `count` |" in text
    assert stages_that_are("taken as committed, not rebuilt", text) == set(lock.read(clone))
    assert "![roc]" not in text  # it is that of base
    assert re.findall(r"(\S+ \S+) rebuilt", text) == ["committed, not"]  # the metric above was edited by hand
    assert text.splitlines()[0].endswith(
        "from scratch, fine-tuned: the same predictions. Gate: not set. Rebuilt: nothing.**"
    )
    assert "- **Rebuilt:** no stage." in text
    assert run("git", "rev-parse", "HEAD", cwd=clone).strip() in text
    (clone / "plots/roc.csv").write_text("changed")
    vouch(clone)
    darkroom("pr-report", "main", cwd=clone)
    text = (clone / "report/report.md").read_text()
    assert "not those that the branch has committed** (`dvc.lock`, `plots/roc.csv`)" in text
    assert stages_that_are("not those committed: run here, or taken from a run-cache", text) == {"evaluate"}


def test_the_report_says_what_was_rebuilt(branch: Path) -> None:
    commit(branch, "An idea")
    stages = lock.read(branch)
    same = {name: dict.fromkeys(lock.outs(stage), "") for name, stage in stages.items()}
    digest = rebuilt.digest(stages)

    def report(stages: dict[str, dict[str, str]], committed: str, code: int) -> str:
        found = rebuilt.Rebuilt(commit="0" * 40, committed=committed, rebuilt="of the rebuild", stages=stages)
        (branch / "found.json").write_text(found.model_dump_json())
        printed = darkroom("pr-report", "main", "--rebuilt", "found.json", cwd=branch, code=code)
        return printed if code == 2 else (branch / "report/report.md").read_text()

    text = report(same, digest, 0)
    assert stages_that_are("rebuilt, the same bytes as those committed", text) == set(stages)
    some = {name: outs for name, outs in same.items() if name != "tsne"}
    forged = {**some, "evaluate": {**some["evaluate"], "metrics/evaluate.json": "x: 1 -> `@all`"}}
    text = report(forged, digest, 1)
    assert "**The gate is closed.** The rebuild gave other bytes than those committed: `evaluate`." in text
    assert stages_that_are("**rebuilt, other bytes than those committed**", text) == {"evaluate"}
    assert "\n    - `metrics/evaluate.json`: `` x: 1 -> `@all` ``\n" in text
    assert stages_that_are("taken as committed, not rebuilt", text) == {"tsne"}
    assert len(stages_that_are("rebuilt, the same bytes as those committed", text)) == len(stages) - 2
    assert "**`evaluate`: other bytes than those committed.** The figures below are the committed ones." in text
    assert "Gate: closed. Rebuilt: other bytes than those committed in `evaluate`.**" in text.splitlines()[0]
    assert "found.json is about the dvc.lock of commit 0000000000, not about this one" in report(same, "of another", 2)
    (branch / "found.json").write_text("{}")
    printed = darkroom("pr-report", "main", "--rebuilt", "found.json", cwd=branch, code=2)
    assert "found.json is missing or damaged: run `darkroom verify --report found.json`" in printed


@pytest.mark.fast
def test_names_in_the_diffs_cannot_write_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's own tables take class names and params as they are."""
    changes = {"per_class.[x](//y)@all <b>|.f1": {"old": 0.1, "new": 0.123456, "diff": 0.023456}}
    strings = {"split.group": {"old": None, "new": "a|b"}}
    found = {"metrics/evaluate.json": changes, "params.yaml": strings}
    monkeypatch.setattr(dvc, "read", lambda *_: json.dumps(found))
    rows = list(pull_request.rows("0" * 40))
    assert rows == [
        "| `metrics/evaluate.json` | `per_class.[x](//y)@all <b>\\|.f1` | 0.1 | 0.12346 | 0.023456 |",
        "| `params.yaml` | `split.group` |  | `a\\|b` |  |",
    ]


def test_a_gate_on_the_same_results_is_refused(branch: Path) -> None:
    printed = darkroom("compare", "main", "main", "--fail-on", "worse", cwd=branch, code=2)
    assert "have the same results, so that the gate would let everything pass" in printed
    commit(branch, "An idea")
    printed = darkroom("pr-report", "HEAD", "--fail-on", "worse", cwd=branch, code=2)
    assert "have the same results" in printed


@pytest.mark.fast
def test_a_class_that_falls_closes_the_gate() -> None:
    """All images: 20 better and 20 worse. One class: 20 of 60 worse."""
    labels = np.repeat([0, 1, 2], [60, 60, 60])
    base, head = np.eye(3)[labels], np.eye(3)[labels]
    base[60:80] = np.eye(3)[0]  # 20 of class 1 are wrong in base alone
    head[:20] = np.eye(3)[1]  # 20 of class 0 are wrong in head alone
    units = np.arange(180)
    sides = {"finetune": (from_probabilities(base, labels), from_probabilities(head, labels))}
    tests = compare.gate_tests(labels, units, sides, compare.class_tests(labels, units, sides, ["a", "b", "c"]), {})
    closed = [(test.model, test.label) for test in tests if test.p < 0.05]
    assert closed == [("finetune", "a")]
    found = compare.Comparison(
        "x", "y", {}, {}, 0, [verdicts.Headline("finetune", "accuracy", bootstrap.Difference(1, 1, 0, 0), 1.0, "")],
        [], [], tests, {}, [], [],
    )  # fmt: skip
    (reason,) = gate.failures(found, "worse", {})
    assert "in class `a`" in reason
    assert gate.failures(found, "worse:finetune", {}) == [reason]
    with pytest.raises(UserError, match="worse:finetune"):
        gate.failures(found, "worse:scratch", {})


@pytest.mark.fast
def test_a_thousand_classes_are_not_damaged() -> None:
    """Each probability is rounded to 6 decimals, so that a sum may miss 1 by 5e-7 times the number of classes."""
    classes = [f"c{index:04d}" for index in range(1000)]
    probabilities = np.random.default_rng(0).dirichlet(np.full(1000, 0.4), 200).round(6)
    worst = np.abs(probabilities.sum(1) - 1).max()
    probabilities[0, 0] += 0.0009 - worst
    rows = [dict(zip([f"probability_{c}" for c in classes], map(str, row), strict=True)) for row in probabilities]
    assert revision._probabilities(rows, classes).shape == (200, 1000)
    rows[0]["probability_c0000"] = str(float(rows[0]["probability_c0000"]) + 0.01)
    with pytest.raises(ValueError, match="do not sum to 1"):
        revision._probabilities(rows, classes)


@pytest.mark.fast
def test_without_the_probability_of_each_class_everything_but_auroc_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers, written by evaluate and read again, with all probabilities and with two for each image."""
    monkeypatch.chdir(tmp_path)
    classes, random = ["a", "b", "c"], np.random.default_rng(0)
    labels = np.sort(random.integers(0, 3, 90))
    paths = [f"{classes[label]}/{index}.png" for index, label in enumerate(labels)]
    test = Folder(np.empty(0, np.uint8), labels, paths, classes)
    manifest = [Row(path, path[0], "test", f"{index:064d}", "") for index, path in enumerate(paths)]
    manifest += [Row(f"{label}/train.png", label, "train", "f" * 64, "") for label in classes]
    tables = {name: random.dirichlet(np.ones(3), 90).round(6) for name in ("one", "other")}
    of_models = {name: from_probabilities(table, labels) for name, table in tables.items()}

    def written_and_read() -> Predictions:
        evaluate.write_predictions(test, {name: name for name in of_models}, of_models)
        return revision._predictions(Path("plots/predictions.csv").read_text(), manifest, "here")

    def compared(found: Predictions) -> dict[str, verdicts.Headline]:
        sides = found.said["one"], found.said["other"]
        right = {"accuracy": compare.is_right}
        return {line.metric: line for line in compare.compare_metrics("m", labels, np.arange(90), sides, right, 15)}

    whole = written_and_read()
    monkeypatch.setattr(said, "FULL", 1)
    of_models = {name: said.kept(of) for name, of in of_models.items()}
    brief = written_and_read()
    assert (
        Path("plots/predictions.csv").read_text().splitlines()[0] == "model,path,actual,predicted,confidence,of_label"
    )
    assert (brief.classes, brief.keys, brief.actual) == (whole.classes, whole.keys, whole.actual)
    assert compared(brief) == {name: line for name, line in compared(whole).items() if name != "auroc"}
    for name, of in brief.said.items():
        assert of.probabilities is None
        assert of.of_label == pytest.approx(tables[name][np.arange(90), labels], rel=1e-5)


def test_groups_are_what_tests_count(branch: Path) -> None:
    """One group per class: two models that differ on many images of one class differ in one group."""
    printed = darkroom("compare", "main", cwd=branch)
    assert "groups" not in printed.split("|")[0]
    assert "| **better** |" in printed
    rows = read_csv(branch / "data/manifest.csv")
    write_rows(branch / "data/manifest.csv", [{**row, "group": row["label"]} for row in rows])
    vouch(branch)
    printed = darkroom("compare", "main", cwd=branch)
    assert "They come from 4 groups." in printed
    assert "| **better** |" not in printed


@pytest.mark.fast
def test_a_verdict_that_rests_on_look_alikes_is_named() -> None:
    """Head is right about ten more images. All of them have a look-alike in train."""
    labels, has_one = np.zeros(60, int), np.arange(60) < 10
    good, bad = (from_probabilities(np.eye(2)[predicted], labels) for predicted in (labels, has_one.astype(int)))
    right = {"accuracy": compare.is_right}

    def found(units: np.ndarray, has_one: np.ndarray) -> look_alikes.LookAlikes:
        accuracies = look_alikes.accuracies(labels, units, {"scratch": (bad, good)}, right, has_one)
        count = {"base": 0, "head": 10, "shared": int(has_one.sum())}
        return look_alikes.LookAlikes({"base": 8, "head": 10}, count, count, [], accuracies)

    def text(found: look_alikes.LookAlikes) -> str:
        return look_alikes.markdown(found, {"base": 60, "head": 60}, {"scratch": "from scratch"})

    named = text(found(np.arange(60), has_one))
    assert "| from scratch | accuracy | 1.000 | 1.000 | +0.000 | 1 | no evidence | 0 | 10 |" in named
    assert (
        '**from scratch, accuracy: the verdict is "better" with these images and "no evidence" without them.**' in named
    )
    assert "at most 8 bits in base and in at most 10 in head" in named
    assert "**" not in text(found(labels, has_one))  # a single group: no evidence with them either
    assert "**" not in text(found(np.arange(60), np.arange(60) >= 50))  # other images have one
    (none_left,) = found(np.arange(60), np.ones(60, bool)).accuracies
    assert (none_left.p, none_left.verdict, none_left.head_right) == (None, None, 60)
    assert text(look_alikes.LookAlikes()) == "No look-alikes across train and test were found."


def test_look_alikes_of_base_count_after_they_are_gone(branch: Path) -> None:
    """The second of two pairs goes, and both test images stay out of the accuracies. Base is of Darkroom 0.1."""
    pairs = branch / "plots/near_duplicates.csv"
    rows = read_csv(branch / "data/manifest.csv")
    train = next(row["path"] for row in rows if row["split"] == "train")
    first, second = [row["path"] for row in rows if row["split"] == "test"][:2]
    pairs.write_text(f"train,test,distance\n{train},{second},3\n{train},{first},7\n")
    vouch(branch)
    commit(branch, "Two pairs")
    header = "sides,first,second,distance\n"
    pairs.write_text(
        f"{header}train-test,{train},{first},7\nval-test,a/val.png,{second},3\ntrain-val,{train},a/val.png,8\n"
    )
    vouch(branch)
    found = json_in(darkroom("compare", "HEAD", "--json", cwd=branch))["look_alikes"]
    assert found["images"] == {"base": 2, "head": 1, "shared": 2}
    assert found["new"] == []
    commit(branch, "One pair")
    found = json.loads(darkroom("compare", "HEAD", "HEAD~1", "--json", cwd=branch))["look_alikes"]
    assert found["new"] == [{"test": second, "train": train}]


@pytest.mark.fast
def test_classes_with_few_test_images_are_marked() -> None:
    few, enough = (verdicts.ClassChange("scratch", f"of {count}", count, 0.9, 0.1, 0.01) for count in (9, 10))
    table = text._classes([few, enough], {"scratch": "from scratch"})
    assert "| `of 9` | 9 (few) |" in table
    assert "| `of 10` | 10 |" in table
    assert "few: fewer than 10 test images." in table
    assert "few" not in text._classes([enough], {"scratch": "from scratch"})
