"""Model cards: from committed files alone, the same bytes each time, for any classes and models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from scipy import stats

from conftest import ROOT
from darkroom.data.manifest import Row
from darkroom.evaluation import metrics
from darkroom.evaluation.per_class import OfClass
from darkroom.report import card
from darkroom.system.errors import UserError

HOSTILE = ["a|b", "`x`", "# head\n| y |", "**bold**", "![](http://x)"]
MISSING = "Not stated."


def facts(classes: list[str], owners: dict[str, str] | None = None, **comparison: int) -> card.Facts:
    """What a project with two models says."""
    figure = {"value": 0.8, "low": 0.7, "high": 0.9}
    errors = {"ece": {"value": 0.05}, "log_loss": {"value": 0.4}}
    of_class = {}
    for index, label in enumerate(classes):
        recall = metrics.share(np.arange(40) < 40 - index % 40, np.arange(40))
        of_class[label] = OfClass(40, recall["value"], recall["low"], recall["high"], 0.5, 0.6, "")
    sets = {"error_rate": 0.05, "coverage": figure, "mean_size": 1.5, "sure": 0.5, "accuracy_if_sure": 0.9}
    of_model: dict[str, Any] = {
        "title": "m|x",
        "made_from": "0123",
        "temperature": 0.7,
        "accuracy": figure,
        "macro_f1": figure,
        "sets": sets,
        "unknown": figure,
        "uncalibrated": errors,
        **errors,
    }
    scores = {"linear": of_model, "other": of_model, "comparison": comparison, "count": 400, "machine": "device cpu"}
    rows = [Row(f"{label}/{side}.png", label, side, "00", "") for label in classes for side in ("train", "val", "test")]
    stages = {"train_linear": {"outs": [{"path": "models/linear.pth", "md5": "abc"}]}, "train_other": {}}
    tree = {"split": {"mode": "hash"}, "run": {"seed": 1}, "images": {"resolution": 64}}
    return card.Facts(
        scores, {"linear": of_class, "other": of_class}, rows, stages, tree, owners or {}, MISSING, "f00.dir"
    )


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, as a browser would show them."""
    found: list[list[list[str]]] = []
    for token, after in zip(tokens := MarkdownIt("commonmark").enable("table").parse(text), tokens[1:], strict=False):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append("".join(child.content for child in after.children or []))
    return found


@pytest.mark.fast
@pytest.mark.parametrize("number", [2, 4, 16, 100])
def test_a_card_is_bounded_for_any_number_of_classes(number: int) -> None:
    classes = [f"class {index:03d}" for index in range(number)]
    text = card.as_markdown("linear", facts(classes))
    of_data, _, of_classes, *_ = tables(text)
    assert len(of_classes) == 1 + min(number, card.LISTED)
    assert sum(int(row[1]) for row in of_data[1:-1]) == int(of_data[-1][1]) == number
    weakest = classes[min(number, 40) - 1]
    assert of_classes[1][0] == weakest
    assert f"The weakest class is `{weakest}`" in text
    assert len(text.splitlines()) < 130


@pytest.mark.fast
def test_hostile_names_stay_in_their_cells() -> None:
    text = card.as_markdown("linear", facts(HOSTILE))
    of_data, _, of_classes, *_ = tables(text)
    assert {len(row) for row in of_data} == {4}
    assert {len(row) for row in of_classes} == {5}
    assert {row[0] for row in of_classes[1:]} == {name if name.isprintable() else repr(name) for name in HOSTILE}
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<img" not in html
    assert "<strong>" not in html
    assert html.count("<h1>") == 1


@pytest.mark.fast
def test_what_the_owner_says_and_what_is_missing() -> None:
    text = card.as_markdown("linear", facts(["a", "b"], {"limits": "Not for *children*."}))
    assert "## Limits\n\nNot for *children*.\n" in text
    assert f"## Intended use\n\n{MISSING}\n" in text


@pytest.mark.fast
def test_the_interval_of_a_recall_is_wilsons() -> None:
    wilson = stats.binomtest(39, 40).proportion_ci(method="wilson")
    expected = f"| `b` | 40 | 0.500 | 0.975 ({wilson.low:.3f} to {wilson.high:.3f}) |"
    assert expected in card.as_markdown("linear", facts(["a", "b"]))
    grouped = card.as_markdown("linear", facts(["a", "b"], groups=30))
    assert "of 30 groups, which the intervals count" in grouped


@pytest.mark.fast
def test_the_file_of_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert card._owners("f00") == ({}, "Not stated: there is no `models/card.yaml`.")
    card.OWNERS.parent.mkdir()
    card.OWNERS.write_text("only_for: f00\nlimits: None known.\n")
    assert card._owners("f00")[0] == {"limits": "None known."}
    assert card._owners("f01") == ({}, "Not stated: `models/card.yaml` is about other images.")
    for text in ("limit: x\n", "limits: [x]\n", "- x\n", "limits: 'x\n"):
        card.OWNERS.write_text(text)
        with pytest.raises(UserError, match=r"models/card\.yaml"):
            card._owners("f00")
    with pytest.raises(UserError, match="has no results yet"):
        card.as_markdown("third", facts(["a", "b"]))


@pytest.mark.fast
@pytest.mark.product
def test_the_committed_cards_are_those_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, run `darkroom card` and commit models/*.md."""
    monkeypatch.chdir(ROOT)
    found = card._facts()
    for name in found.tree["models"]:
        assert card.path(name).read_text(encoding="utf-8") == card.as_markdown(name, found), name
