"""`darkroom page` and `darkroom compare --html` in a real browser, from the disk and without a network."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from browsing import Watched, browser
from conftest import build_once, commit, copy_of, read_csv, read_json, run, vouch
from darkroom.pages import charts, figures, layout
from darkroom.system.errors import UserError

__all__ = ["browser"]  # the fixture

CLASS = "<img src=x onerror=document.title='broken'>"  # instead of mono-defective
FILE = "\"onerror=document.title='broken' x=\".png"  # instead of mono-functional/005.png
LARGEST = 10_000_000  # bytes


@pytest.fixture(scope="session")
def pages(rebuilt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose names are hostile, with its page and a comparison with a commit before, both in report/."""

    def build(folder: Path) -> None:
        project = copy_of(rebuilt, folder / "a project")
        rename_everywhere(project, lambda text: text.replace("mono-defective", CLASS).replace("005.png", FILE))
        (project / "data/raw/mono-defective").rename(project / "data/raw" / CLASS)
        for path in (project / "data/raw").rglob("005.png"):
            path.rename(path.with_name(FILE))
        for _ in range(2):  # the first changes the files that the trainings are said to be made from
            vouch(project)
        commit(project, "Hostile names")
        swap_predictions(project / "plots/predictions.csv")
        vouch(project)
        run("darkroom", "page", cwd=project)
        run("darkroom", "compare", "HEAD", "--html", "report/compare.html", cwd=project)

    return build_once(tmp_path_factory, "pages", build) / "a project"


def rename_everywhere(project: Path, renamed: Callable[[str], str]) -> None:
    """Rename in all text results."""
    for path in [*project.glob("plots/*.csv"), project / "data/manifest.csv"]:
        rows = read_csv(path)
        header = [renamed(column) for column in (path.read_text().splitlines()[0]).split(",")]
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerows([header, *([renamed(value) for value in row.values()] for row in rows)])
    for path in project.glob("metrics/*.json"):
        path.write_text(json.dumps(json.loads(json.dumps(read_json(path))), indent=2).replace("mono-defective", CLASS))


def swap_predictions(path: Path) -> None:
    """Swap the probabilities of two classes for every third image, so that some predictions flip."""
    rows = read_csv(path)
    columns = [column for column in rows[0] if column.startswith("probability_")][:2]
    for row in rows[::3]:
        row[columns[0]], row[columns[1]] = row[columns[1]], row[columns[0]]
        probabilities = {column: float(row[column]) for column in row if column.startswith("probability_")}
        row["predicted"] = max(probabilities, key=lambda column: probabilities[column]).removeprefix("probability_")
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def opened(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    """A page from the disk without a network, which complains of nothing and asks for nothing."""
    watched = Watched(browser, "file:", **options)
    watched.context.set_offline(True)
    watched.page.goto(path.as_uri())
    watched.page.locator("[data-chart] svg").first.wait_for()
    yield watched.page
    assert not watched.complaints
    assert not watched.others
    assert "broken" not in watched.page.title()
    watched.context.close()


def fits(page: Any) -> bool:
    """Whether no text stands out of the page to the right."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (360, "dark")])
def test_the_page_stands_alone(pages: Path, browser: Any, width: int, scheme: str) -> None:
    path = pages / "report/index.html"
    assert path.stat().st_size < LARGEST
    with opened(browser, path, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        assert fits(page)
        images = page.locator("img").all()
        assert len(images) > 10
        for image in images:
            if image.is_visible():
                assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 1
        charts_drawn = page.locator("[data-chart]").count()
        page.wait_for_function(f"document.querySelectorAll('[data-chart] svg').length === {charts_drawn}")
        page.locator("#scatter svg").wait_for()
        assert page.locator("main img[src='x']").count() == 0  # no class's name has become an element
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")


def test_a_cell_of_the_confusion_opens_its_images(pages: Path, browser: Any) -> None:
    with opened(browser, pages / "report/index.html") as page:
        rows = [row for row in read_csv(pages / "plots/predictions.csv") if row["model"] == "finetune"]
        cell = page.locator("table.confusion").nth(1).locator("td.miss a").first
        actual, predicted = cell.get_attribute("aria-label").split(" of ", 1)[1].split(" predicted as ")
        wanted = {row["path"] for row in rows if row["actual"] == actual and row["predicted"] == predicted}
        assert len(wanted) == int(cell.inner_text())
        cell.focus()
        page.keyboard.press("Enter")
        page.get_by_text(f"{len(wanted)} images.").wait_for()
        shown = {text.inner_text() for text in page.locator("#gallery .path").all()}
        assert shown == wanted
        page.locator("#gallery button").first.focus()
        page.keyboard.press("Enter")
        dialog = page.locator("dialog")
        assert dialog.locator("h2").inner_text() in wanted
        assert "fine-tuned:" in dialog.inner_text()
        page.keyboard.press("Escape")
        assert not dialog.is_visible()


def test_the_filters_show_what_they_say(pages: Path, browser: Any) -> None:
    with opened(browser, pages / "report/index.html") as page:
        rows = [row for row in read_csv(pages / "plots/predictions.csv") if row["model"] == "scratch"]
        right = [row for row in rows if row["actual"] == row["predicted"] == CLASS]
        page.select_option("#filters [name=class]", label=CLASS)
        page.select_option("#filters [name=show]", "right")
        page.select_option("#filters [name=order]", "unsure")
        page.get_by_text(f"{len(right)} images.").wait_for()
        by_confidence = sorted(right, key=lambda row: float(row[f"probability_{CLASS}"]))
        shown = [text.inner_text() for text in page.locator("#gallery .path").all()]
        assert shown == [row["path"] for row in by_confidence][: len(shown)]
        assert f"{CLASS}" in page.locator("#of-class").inner_text()
        page.goto(page.url.split("#")[0] + "#images?model=1&class=1&show=wrong")
        wrong = [
            row
            for row in read_csv(pages / "plots/predictions.csv")
            if row["model"] == "finetune" and row["actual"] == "mono-functional" != row["predicted"]
        ]
        page.get_by_text(f"{len(wrong)} images.").wait_for()


def test_the_map_is_coloured_by_what_is_asked(pages: Path, browser: Any) -> None:
    with opened(browser, pages / "report/index.html") as page:
        points = page.locator("#scatter svg .mark-symbol.role-mark path")
        points.first.wait_for()
        assert points.count() == sum(row["model"] == "scratch" for row in read_csv(pages / "plots/tsne.csv"))
        page.select_option("#map-filters [name=colour]", "right")
        page.locator("#scatter .role-legend").get_by_text("not tested").wait_for()
        points.first.hover(force=True)
        page.locator(".tip img").wait_for()
        points.first.click(force=True)
        page.locator("dialog h2").wait_for()
        page.keyboard.press("Escape")


def test_the_page_of_a_revision_has_its_figures_and_its_images(pages: Path, browser: Any) -> None:
    run("darkroom", "page", "HEAD", "--output", "report/rev.html", cwd=pages)
    with opened(browser, pages / "report/rev.html") as page:
        rows = list(csv.DictReader(run("git", "show", "HEAD:plots/predictions.csv", cwd=pages).splitlines()))
        wrong = sum(row["model"] == "scratch" and row["actual"] != row["predicted"] for row in rows)
        assert page.locator("#verdict").get_by_text(f"{wrong} images").count()
        assert run("git", "rev-parse", "HEAD", cwd=pages).strip() in page.locator("#provenance").inner_text()
        images = json.loads(page.locator("#data").text_content())
        assert len(set(images["thumbs"])) > 100  # those that have hostile names now are grey


def test_a_comparison_shows_the_flipped_images_first(pages: Path, browser: Any) -> None:
    with opened(browser, pages / "report/compare.html", viewport={"width": 360, "height": 900}) as page:
        assert fits(page)
        before = {
            (row["model"], row["path"]): row["predicted"]
            for row in csv.DictReader(run("git", "show", "HEAD:plots/predictions.csv", cwd=pages).splitlines())
        }
        flips = [
            row
            for row in read_csv(pages / "plots/predictions.csv")
            if (row["predicted"] == row["actual"]) != (before[row["model"], row["path"]] == row["actual"])
        ]
        assert page.locator("#flips li").count() == len(flips) > 0
        assert "now wrong" in page.locator("#flips li").first.inner_text()
        assert page.locator("section").nth(1).get_attribute("id") == "flips"


def test_no_such_revision_and_no_such_folder(pages: Path, tmp_path: Path) -> None:
    assert "knows no revision 'nowhere'" in run("darkroom", "page", "nowhere", cwd=pages, code=2)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        layout.write("", tmp_path / "file/page", "--output")


@pytest.mark.fast
def test_data_cannot_end_its_script() -> None:
    text = layout.as_script_data({"name": "</script><!--<script>\u2028&"})
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><!--<script>\u2028&"}


@pytest.mark.fast
def test_views_side_by_side_become_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    rows = [{"model": model, "class": "a", "x": "0", "y": "1"} for model in ("b", "a")]
    drawn = charts.charts({"template": "roc", "title": "ROC", "x": "x", "y": "y"}, rows)
    assert [one.title for one in drawn] == ["ROC: b", "ROC: a"]
    assert [one.spec["data"]["values"] for one in drawn] == [[{"rev": "", **row}] for row in rows]
    assert all(one.spec["width"] == "container" and "facet" not in one.spec for one in drawn)
    assert "DVC_METRIC" not in json.dumps([one.spec for one in drawn])


@pytest.mark.fast
def test_the_chart_of_recall_has_a_row_for_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    rows = [{"model": "a", "class": label, "recall": "1", "few": ""} for label in "xyz"]
    (drawn,) = charts.charts({"template": "per_class", "title": "Recall", "x": "recall", "y": "class"}, rows)
    assert drawn.spec["height"] == 3 * 15


@pytest.mark.fast
def test_charts_of_many_images_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    rows = [{"label": "a", "split": "train", "count": "70000"}]
    (drawn,) = charts.charts({"template": "images", "title": "Images", "x": "label", "y": "split"}, rows)
    assert drawn.spec["encoding"]["x"]["aggregate"] == "sum"
    sizes = [{"width": str(w), "height": str(h), "count": "2"} for w in range(1, 101) for h in range(1, 101)]
    about, rounded = figures._rounded({"title": "Sizes"}, sizes)
    assert len(rounded) <= figures.SIZES
    assert sum(int(row["count"]) for row in rounded) == 20_000
    assert about["title"] == "Sizes, rounded to 3 pixels"
    curve = [{"model": "a", "class": "b", "x": str(at)} for at in range(1000)]
    thinned = figures._thinned(curve)
    assert (thinned[0], thinned[-1], len(thinned)) == (curve[0], curve[-1], figures.POINTS)
