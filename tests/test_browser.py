"""The page of `darkroom serve` in a real browser."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi_offline", reason="needs FastAPI and more: pip install -r requirements/extras/serve.txt")

from browsing import Watched, browser
from test_serve import CLASSES, Server, model, picture

__all__ = ["browser", "model"]  # the fixtures

NAME = "<img src=x onerror=\"document.title='broken'\">.png"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    started = Server(model)
    yield started
    started.end(signal.SIGINT)


@pytest.fixture
def home(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


def upload(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (360, "dark")])
def test_images_are_classified_and_names_are_text(
    browser: Any, server: Server, home: str, width: int, scheme: str
) -> None:
    watched = Watched(browser, home, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = watched.page
    page.goto(home)
    page.get_by_text("handmade model").wait_for()
    assert not watched.complaints
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"  # Enter opens the dialog
    page.set_input_files("#files", [upload(NAME, picture(0)), upload("broken.png", b"no image")])
    page.locator("article").nth(1).wait_for()
    failed, good = page.locator("article").all()
    assert "is not an image" in failed.inner_text()
    assert good.locator("h2").inner_text() == NAME
    wanted = server.classify(picture(0))[2]["results"][0]
    assert good.locator(".label").inner_text() == f"{wanted['class']}, {100 * wanted['probability']:.1f} %"
    assert good.locator(".answer").inner_text() == wanted["answer"]
    rows = good.locator("tr").all()
    assert [row.locator("th").inner_text().removesuffix(" ●") for row in rows] == list(wanted["probabilities"])
    assert sorted(wanted["probabilities"]) == sorted(CLASSES)
    marked = [row.locator("th").inner_text().endswith("●") for row in rows]
    assert marked == [name in wanted["set"] for name in wanted["probabilities"]]
    for image in good.locator("img").all():
        image.evaluate("image => image.decode()")
        assert image.evaluate("image => image.naturalWidth") > 1
    assert good.locator("img").count() == 2
    assert page.title() == "handmade - Darkroom"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert all("422" in complaint for complaint in watched.complaints)  # the browser notes the file that cannot be read
    assert not watched.others
    watched.context.close()


def test_an_image_is_dropped(browser: Any, server: Server, home: str) -> None:
    watched = Watched(browser, home)
    page = watched.page
    page.goto(home)
    transfer = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
            return transfer;
        }""",
        list(picture(1)),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    page.locator("article").wait_for()
    wanted = server.classify(picture(1))[2]["results"][0]
    page.get_by_role("status").get_by_text(f"dropped.png: {wanted['class']}").wait_for()
    assert not watched.complaints
    watched.context.close()


def test_the_interface_is_shown_without_other_hosts(browser: Any, home: str) -> None:
    watched = Watched(browser, home)
    watched.page.goto(home + "docs")
    watched.page.get_by_text("/predict", exact=True).wait_for()
    assert not watched.complaints
    assert not watched.others
    watched.context.close()


def test_a_page_of_another_site_cannot_use_it(browser: Any, home: str) -> None:
    """A form that another page sends needs no permission of the server's to arrive."""
    watched = Watched(browser, home)
    page = watched.page
    page.set_content(
        f"<form action='{home}predict' method='post' enctype='multipart/form-data'>"
        "<input type='file' name='files'><button>Send</button></form>"
    )
    page.set_input_files("input", [upload("x.png", picture(0))])
    with page.expect_response(home + "predict") as caught:
        page.click("button")
    assert caught.value.status == 403
    watched.context.close()
