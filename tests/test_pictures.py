"""Charts, templates of DVC's plots and tables with 2, 4, 16 and 100 classes: what one needs to read them."""

import configparser
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dvc_render.html import render_html  # type: ignore[import-untyped]
from dvc_render.vega import VegaRenderer  # type: ignore[import-untyped]
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_curve

from conftest import ROOT, read_csv
from darkroom.evaluation import metrics, per_class
from darkroom.evaluation.said import from_probabilities
from darkroom.pictures import evaluate as pictures
from darkroom.pictures import palette
from darkroom.pictures import stats as sheets
from darkroom.pictures import tsne as maps
from darkroom.report import summary
from darkroom.system import files

SIZES = pytest.mark.parametrize("number", [2, 4, 16, 100])
MODELS = {
    "zebra": "from scratch",
    "finetune": "fine-tuned",
    "linear": "a linear probe",
}  # not in the order of the alphabet
REACH = 0.05  # inches by which the box of a text may leave the picture: it is taller than its letters


class Results:
    """Made-up results of three models for classes of 1 to 16 test images. Every eighth class is never predicted."""

    def __init__(self, number: int) -> None:
        random = np.random.default_rng(number)
        self.classes = [f"a class of tissue {index:03d}" for index in range(number)]
        sizes = [1 + 15 * (index * 7 % number) // max(1, number - 1) for index in range(number)]
        self.labels = np.repeat(np.arange(number), sizes)
        self.probabilities = {}
        for index, name in enumerate(MODELS):
            scores = random.gumbel(size=(len(self.labels), number))
            scores[np.arange(len(self.labels)), self.labels] += 2 + index
            scores[:, ::8] -= 40 if number > 8 else 0
            self.probabilities[name] = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        self.predicted = {name: table.argmax(1) for name, table in self.probabilities.items()}
        self.curves = {
            name: {self.classes[k]: roc_curve(self.labels == k, table[:, k])[:2] for k in np.unique(self.labels)}
            for name, table in self.probabilities.items()
        }
        places = random.normal(size=(number, 2)) * 30
        self.points = [
            maps.Point(
                name, self.classes[k], side, f"{self.classes[k]}/{side}{n}.png", *(places[k] + random.normal(size=2))
            )
            for name in MODELS
            for n, k in enumerate(self.labels)
            for side in ("train", "test")
        ]

    def of_classes(self) -> dict[str, per_class.Classes]:
        """What stands in plots/per_class.csv."""
        units = np.arange(len(self.labels))
        return {name: metrics.per_class(self.labels, of, units, self.classes) for name, of in self.predicted.items()}

    def draw(self) -> None:
        """Every chart that shows models or classes, as PNG files in plots/."""
        titled = {MODELS[name]: of for name, of in self.predicted.items()}
        pictures.confusion(self.labels, titled, self.classes, "plots/confusion.png")
        pictures.roc({MODELS[name]: of for name, of in self.curves.items()}, "plots/roc.png")
        tables = {
            MODELS[name]: (metrics.reliability(self.labels, from_probabilities(table, self.labels), 15),) * 2
            for name, table in self.probabilities.items()
        }
        pictures.reliability(tables, "plots/reliability.png")
        risks = {
            MODELS[name]: metrics.risk_coverage(table.argmax(1) == self.labels, table.max(1))
            for name, table in self.probabilities.items()
        }
        pictures.risk_coverage(risks, "plots/risk_coverage.png")
        row = {"epoch": "1", "lr": "0.1", **dict.fromkeys(("train_loss", "val_loss"), "1")}
        row |= dict.fromkeys(("train_accuracy", "val_accuracy"), "0.5")
        pictures.curves({"from scratch": [], "fine-tuned": [row], "a linear probe": []}, "plots/curves.png")
        maps.tsne([point._replace(model=MODELS[point.model]) for point in self.points], "plots/tsne.png")

    def write(self) -> None:
        """The CSV files of DVC's plots."""
        files.write_csv(per_class.PATH, per_class.HEADER, per_class.rows(self.of_classes()))
        rows = [
            (name, f"{k}.png", self.classes[label], self.classes[guess])
            for name, predicted in self.predicted.items()
            for k, (label, guess) in enumerate(zip(self.labels, predicted, strict=True))
        ]
        files.write_csv("plots/predictions.csv", ("model", "path", "actual", "predicted"), rows)
        points = [
            (name, label, x, y)
            for name, curves in self.curves.items()
            for label, of_class in curves.items()
            for x, y in zip(*of_class, strict=True)
        ]
        files.write_csv("plots/roc.csv", ("model", "class", "false_positive_rate", "true_positive_rate"), points)
        files.write_csv("plots/tsne.csv", ("model", "class", *maps.Point._fields[2:]), self.points)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Figure]]:
    """The charts that a test has drawn, in the current folder, by the names of their files."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Figure] = {}
    save = Figure.savefig

    def keep(chart: Figure, *arguments: Any, **options: Any) -> None:
        save(chart, *arguments, **options)
        found[f"chart {len(found)}"] = chart

    monkeypatch.setattr(Figure, "savefig", keep)
    monkeypatch.setattr(plt, "close", lambda _: None)
    yield found
    monkeypatch.undo()
    plt.close("all")


def legends(chart: Figure) -> list[Any]:
    """Those of the whole chart, and those of its axes."""
    return [*chart.legends, *(ax.get_legend() for ax in chart.axes if ax.get_legend())]


@SIZES
def test_charts_are_readable(number: int, drawn: dict[str, Figure]) -> None:
    """Legends hide nothing, no text is cut, classes can be told apart, and a model has one colour."""
    Results(number).draw()
    check_classes(number, drawn)
    check_models(drawn)
    assert len(drawn) == 6
    for chart in drawn.values():
        renderer = chart.canvas.get_renderer()  # type: ignore[attr-defined]
        shown = [text for ax in chart.axes for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)]
        shown += [text for legend in legends(chart) for text in legend.get_texts()]
        saved = chart.get_tightbbox(renderer)  # in inches: what grid() saves
        for text in shown:
            if text.get_text():
                box = text.get_window_extent(renderer)
                assert box.x0 / chart.dpi >= saved.x0 - REACH, text
                assert box.y0 / chart.dpi >= saved.y0 - REACH, text
                assert box.x1 / chart.dpi <= saved.x1 + REACH, text
                assert box.y1 / chart.dpi <= saved.y1 + REACH, text
        boxes = [legend.get_window_extent(renderer) for legend in legends(chart)]
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(ax.get_window_extent(renderer)) for ax in chart.axes)
            assert not any(box.overlaps(other) for other in boxes[:index])
        assert saved.width < 40


def check_classes(number: int, drawn: dict[str, Figure]) -> None:
    """No two look alike up to 64. Where there are more than one can know by heart, they have numbers or only some have names."""
    *_, chart = drawn.values()
    (legend,) = legends(chart)
    looks = [(handle.get_color(), handle.get_marker()) for handle in legend.legend_handles]
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == len(set(names)) == number
    assert len(set(looks)) == min(number, 64)
    for ax in chart.axes:
        assert [text.get_text() for text in ax.texts] == ([str(k) for k in range(1, number + 1)] if number > 16 else [])
    roc = list(drawn.values())[1]
    for of_model in legends(roc):
        lines = [(handle.get_color(), handle.get_linestyle()) for handle in of_model.legend_handles]
        assert len(set(lines)) == len(lines) == (number if number <= 16 else 8)
    assert len(legends(roc)) == (1 if number <= 16 else len(MODELS))


def check_models(drawn: dict[str, Figure]) -> None:
    """A model has the colour of its place in the list in every chart, although the first one has no curves."""
    _, _, reliability, risks, curves, _ = drawn.values()
    for index, title in enumerate(MODELS.values()):
        for chart in (reliability, risks, curves):
            entries = zip(legends(chart)[0].get_texts(), legends(chart)[0].legend_handles, strict=True)
            for text, handle in entries:
                if text.get_text().startswith(title):
                    shown = handle.get_facecolor()[0] if hasattr(handle, "get_facecolor") else handle.get_color()
                    assert plt.matplotlib.colors.to_hex(shown) == palette.COLOURS[index].lower()  # type: ignore[attr-defined]


def filled(name: str) -> dict[str, Any]:
    """The Vega-Lite chart that DVC makes of plots/NAME.csv."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    every = {
        path: of
        for stage in stages
        for plot in stage.get("plots", [])
        if isinstance(plot, dict)
        for path, of in plot.items()
    }
    properties = every[f"plots/{name}.csv"]
    rows: list[dict[str, Any]] = [{**row, "rev": "workspace"} for row in read_csv(Path(f"plots/{name}.csv"))]
    chart = VegaRenderer(rows, name, **properties, template_dir=str(ROOT / ".dvc/plots")).get_filled_template()
    return dict(chart)


def svg(chart: dict[str, Any]) -> str:
    """The chart as Vega draws it."""
    vega = pytest.importorskip("vl_convert", reason="needs vl-convert: pip install -r requirements.txt")
    return str(vega.vegalite_to_svg(chart, vl_version="5.8"))


@SIZES
def test_dvcs_plots_are_no_wider_than_a_screen_and_keep_the_order_of_the_models(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Results(number).write()
    for name in ("per_class", "predictions", "roc", "tsne"):
        drawn = svg(filled(name))
        width = float(re.search(r'width="([\d.]+)"', drawn)[1])  # type: ignore[index]
        assert width < 1400, name
        places = [drawn.index(f">{model}<") for model in MODELS]
        assert places == sorted(places), name
        if name in ("roc", "tsne"):
            named = len(set(re.findall(r"a class of tissue \d{3}<", drawn)))
            assert named == number if number <= 60 else f"…{number - 59} entries" in drawn


@SIZES
def test_the_confusion_has_the_same_classes_on_both_axes(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are never predicted, so that the diagonal is one."""
    monkeypatch.chdir(tmp_path)
    results = Results(number)
    results.write()
    drawn = svg(filled("predictions"))
    axes = set(re.findall(r"for a discrete scale with (\d+ values: [^\"]*)\"", drawn))
    assert len(axes) == 1
    assert axes.pop().startswith(f"{number} values")
    cells = re.findall(r'aria-label="predicted: ([^;"]*); actual: ([^;"]*);[^>]* d="M([\d.]+),([\d.]+)h', drawn)
    assert len(cells) == sum(len(set(zip(results.labels, of, strict=True))) for of in results.predicted.values())
    for predicted, actual, x, y in cells:
        assert (predicted == actual) == (x == y)


def test_looks_of_classes_are_those_of_the_png() -> None:
    for name, channel in (("tsne", "shape"), ("roc", "strokeDash")):
        template = json.loads((ROOT / f".dvc/plots/{name}.json").read_text())
        colours, looks = (
            template["config"]["range"]["category"],
            template["spec"]["encoding"][channel]["scale"]["range"],
        )
        pairs = {(colours[k % len(colours)], str(look)) for k, look in enumerate(looks)}
        assert len(pairs) == len(looks) == len(colours) * (8 if channel == "shape" else 4)


@pytest.mark.fast
@SIZES
def test_the_summary_lists_the_weakest_classes_and_marks_those_of_few_images(number: int) -> None:
    results = Results(number)
    found = results.of_classes()
    lines = summary.classes(found, MODELS)
    rows = [line for line in lines if line.startswith("a class of tissue")]
    assert len(rows) == min(number, summary.LISTED)
    judged = [row for row in rows if "(few)" not in row]
    assert rows[: len(judged)] == judged
    recalls = [np.mean([found[name][row[:21].strip()].recall for name in MODELS]) for row in judged]
    assert recalls == sorted(recalls)
    assert max(map(len, lines)) < 140
    assert any(f"{number - summary.LISTED} more classes" in line for line in lines) == (number > summary.LISTED)
    for name in MODELS:
        for label, of in found[name].items():
            assert (of.few == "few") == ((results.labels == results.classes.index(label)).sum() < 10)


def test_a_contact_sheet_says_its_class_and_how_many_images_it_shows(tmp_path: Path) -> None:
    images = [Image.new("RGB", (50, 50), "red")] * 3
    heads = []
    for label, count in (("cat", 3), ("dog", 3), ("cat", 400), ("c" * 300, 3), ("caf\udce9", 3)):
        sheets.contact_sheet(label, images, count, path := tmp_path / "sheet.png")
        with Image.open(path) as sheet:
            assert sheet.size == (8 * 96, 24 + 96)
            heads.append(sheet.crop((0, 0, 768, 24)).tobytes())
    assert len(set(heads)) == len(heads)


@pytest.mark.parametrize("network", [False, True])
def test_the_page_of_dvc_says_if_vega_could_not_be_loaded(
    network: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Chromium without network, and with a network that has a stand-in for Vega."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install -r requirements/extras/browser.txt"
    )
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs a browser: apt-get install chromium")
    monkeypatch.chdir(tmp_path)
    Results(2).write()
    config = configparser.ConfigParser()
    config.read_string(re.sub(r"(?m)^\s+", "", (ROOT / ".dvc/config").read_text()))
    template = ROOT / ".dvc" / config["plots"]["html_template"]
    properties = {"template_dir": str(ROOT / ".dvc/plots"), "template": "roc", "x": "false_positive_rate"}
    chart = VegaRenderer(list(read_csv(Path("plots/roc.csv"))), "roc", y="true_positive_rate", **properties)
    page_file = render_html([chart], tmp_path / "index.html", template)
    stand_in = {"body": "window.vegaEmbed = () => {}", "content_type": "text/javascript"}
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])  # CI is root
        page = browser.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("https://**/*", lambda route: route.fulfill(**stand_in) if network else route.abort())
        page.goto(Path(page_file).as_uri())
        assert page.locator("#offline").is_visible() == (not network)
        assert "darkroom page" in (page.locator("#offline").text_content() or "")
        assert not complaints
        browser.close()
