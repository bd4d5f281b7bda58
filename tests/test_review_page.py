"""The page of `darkroom review` in a real browser, driven by keys."""

import csv
import http.client
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("python_multipart", reason="needs FastAPI and more: pip install -r requirements/extras/serve.txt")

from browsing import Watched, browser
from conftest import read_csv, run, surroundings
from darkroom.results import suspects
from darkroom.results.suspects import Suspect
from darkroom.review import decisions, queue
from darkroom.system import files

__all__ = ["browser"]  # the fixture

SCRIPT = "<script>alert(1)"
IMAGE = "<img src=x onerror=\"document.title='broken'\">"
HOSTILE = '"onerror=alert(1) x=".png'
CLASSES = ["cat", "dog", SCRIPT, IMAGE]
# Each image to decide on, in the order in which it is asked about, and the class that is suggested.
ASKED = [
    ("cat/twin.png", "dog"),
    ("dog/twin.png", "cat"),
    (f"cat/{HOSTILE}", SCRIPT),
    (f"{SCRIPT}/1.tif", IMAGE),
    (f"{IMAGE}/1.png", "dog"),
    ("dog/2.png", "cat"),
]


def picture(path: Path, seed: int, size: tuple[int, int] = (300, 200)) -> None:
    """An image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def project(folder: Path) -> Path:
    """Images of classes and with names that are HTML, a manifest, look-alikes and suspects; a Git repository.

    The stage split refuses such names, so that the lists are made by hand: a page must do nothing with them all the same.
    """
    raw = folder / "data/raw"
    shutil.rmtree(raw)
    for number, label in enumerate(CLASSES):
        for index in range(4):
            picture(raw / label / f"{index}.{'tif' if label == SCRIPT else 'png'}", 10 * number + index)
    picture(raw / "cat" / HOSTILE, 99)
    for label in ("cat", "dog"):
        picture(raw / label / "twin.png", 77)
    paths = sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())
    digests = {path: files.sha256((raw / path).read_bytes()) for path in paths}
    rows = [(path, path.split("/")[0], "train", "", digests[path], "", "") for path in paths]
    header = ("path", "label", "split", "group", "sha256", "reason", "filler")
    files.write_csv("data/manifest.csv", header, rows)
    files.write_csv(queue.LOOK_ALIKES, ("sides", "first", "second", "distance"), [])
    doubted = [
        Suspect(path, digests[path], "train", path.split("/")[0], suggested, 0.1, True, (f"{IMAGE}/2.png", "dog/1.png"))
        for path, suggested in ASKED[2:]
    ]
    suspects.write(doubted)
    run("git", "init", "-q", cwd=folder)
    run("git", "config", "user.name", "Ann <b>Other</b>", cwd=folder)
    return folder


class Server:
    """`darkroom review` in a process of its own."""

    def __init__(self, project: Path) -> None:
        command = [sys.executable, "-c", "from darkroom.cli import main; main()", "review", "--no-browser"]
        self.process = subprocess.Popen(
            command, cwd=project, env=surroundings(), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stderr
        self.greeting = next(line for line in self.process.stderr if "http://" in line)
        found = re.search(r"(http://127\.0\.0\.1:(\d+)/)\?token=(\S+)", self.greeting)
        assert found
        self.url, self.base, self.port, self.token = found[0], found[1], int(found[2]), found[3]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers (lower case) of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, None if body is None else json.dumps(body), named)
        answer = connection.getresponse()
        return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}

    def end(self, how: signal.Signals) -> str:
        """What it said at the end."""
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=60)
        return said


@pytest.fixture
def server(project: Path) -> Iterator[Server]:
    started = Server(project)
    yield started
    if started.process.poll() is None:
        started.end(signal.SIGKILL)


class Page(Watched):
    """The page of a server."""

    def __init__(self, browser: Any, server: Server, **options: Any) -> None:
        super().__init__(browser, server.base, **options)
        self.page.goto(server.url)

    def at(self, number: int) -> None:
        """Wait until an item is shown, and check that what is shown is that item, as text and as pixels."""
        self.page.get_by_role("status").get_by_text(f"Image {number + 1} of {len(ASKED)}").wait_for()
        path, suggested = ASKED[number]
        assert self.page.locator("#caption").inner_text() == path
        assert self.page.locator("#label").inner_text() == path.split("/")[0]
        assert self.page.locator("#suggested").inner_text() == suggested
        self.page.locator("#image:not([data-shows=''])").wait_for()
        for image in self.page.locator("#item img:visible").all():
            image.evaluate("image => image.decode()")
        assert self.page.locator("#image").evaluate("image => image.naturalWidth") == 300

    def press(self, *keys: str) -> None:
        """Press keys, one after another."""
        for key in keys:
            self.page.keyboard.press(key)


def decided(project: Path) -> dict[str, tuple[str, str, str]]:
    """Path -> decision, class and note, of data/review.csv."""
    with (project / decisions.DECISIONS).open(newline="") as stream:
        return {row["path"]: (row["decision"], row["label"], row["note"]) for row in csv.DictReader(stream)}


def test_it_is_driven_by_keys_killed_and_gone_on_with(browser: Any, project: Path, server: Server) -> None:
    first = Page(browser, server)
    first.at(0)
    first.press("r", "Enter")  # the suggested class
    first.at(1)
    assert decided(project) == {"cat/twin.png": ("relabel", "dog", "")}
    assert first.page.locator("#others .done").inner_text() == "Relabelled to dog"  # so that nobody swaps the two
    first.press("n")
    first.page.keyboard.type("=looks <b>odd</b>")
    first.press("Enter", "k")
    first.at(2)
    assert first.page.locator("#progress").inner_text() == f"3 of {len(ASKED)} (2 decided)"
    server.end(signal.SIGKILL)
    assert decided(project)["dog/twin.png"] == ("keep", "", "'=looks <b>odd</b>")
    first.press("d")
    first.page.get_by_role("status").get_by_text("Not stored: the server does not answer").wait_for()
    assert len(decided(project)) == 2
    first.context.close()

    again = Server(project)
    assert f"2 of {len(ASKED)} images decided" in again.greeting
    page = Page(browser, again)
    page.at(2)
    page.press("r")
    page.page.keyboard.type("do")
    page.press("Enter")
    page.at(3)
    assert decided(project)[f"cat/{HOSTILE}"] == ("relabel", "dog", "")
    page.press("Backspace")
    page.at(2)
    page.press("r", "ArrowDown", "Enter")  # the list: dog, then the suggested class, or before it
    page.at(3)
    assert decided(project)[f"cat/{HOSTILE}"] == ("relabel", page_classes("cat", SCRIPT, 1), "")
    page.press("r", "1", "Enter")
    page.at(4)
    assert decided(project)[f"{SCRIPT}/1.tif"] == ("relabel", page_classes(SCRIPT, SCRIPT, 0), "")
    page.press("d")
    page.at(5)
    assert decided(project)[f"{IMAGE}/1.png"] == ("remove", "", "")
    page.page.get_by_role("button", name="Unsure").click()
    page.page.get_by_role("status").get_by_text(f"All {len(ASKED)} images are decided").wait_for()
    assert decided(project)["dog/2.png"] == ("unsure", "", "")
    assert page.page.title() == "Review - Darkroom"
    assert not page.complaints
    assert not page.others
    rows = read_csv(project / decisions.DECISIONS)
    assert [row["path"] for row in rows] == sorted(path for path, _ in ASKED)
    assert {row["who"] for row in rows} == {"Ann <b>Other</b>"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["when"]) for row in rows)
    assert "6 of 6 images decided; `darkroom review --apply`" in again.end(signal.SIGINT)
    page.context.close()


def page_classes(own: str, begin: str, by: int) -> str:
    """The class that is `by` places below `begin` in the list for an image of the class `own`; from the top if it is its own."""
    listed = [name for name in sorted(CLASSES) if name != own]
    return listed[((listed.index(begin) if begin in listed else 0) + by) % len(listed)]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (360, "dark")])
def test_the_page_fits_and_compares(browser: Any, server: Server, width: int, scheme: str) -> None:
    watched = Page(browser, server, viewport={"width": width, "height": 800}, color_scheme=scheme)
    watched.at(0)
    page = watched.page
    assert "same bytes" in page.locator("#other-caption").inner_text()  # a pair is shown at once
    watched.press("ArrowRight", "ArrowRight")
    watched.at(2)
    assert page.locator("#beside").is_hidden()
    watched.press("2")
    assert "dog/1.png" in page.locator("#other-caption").inner_text()
    page.locator("#others button").nth(0).click()
    assert IMAGE in page.locator("#other-caption").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    watched.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    watched.press("Escape", "r")
    page.get_by_role("dialog", name="Which class is it?").wait_for()
    active = page.locator("#filter").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active} span").inner_text() == SCRIPT
    watched.press("Escape")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert not watched.complaints
    assert not watched.others
    watched.context.close()


def test_nothing_is_decided_about_an_image_that_is_not_seen_yet(browser: Any, project: Path, server: Server) -> None:
    watched = Page(browser, server)
    watched.at(0)
    held: list[Any] = []  # and not answered
    watched.page.route(re.compile(r"/image/\d+\?token=[^&]*$"), lambda route: held.append(route))
    watched.press("ArrowRight", "ArrowRight")
    watched.page.locator("#caption").get_by_text(HOSTILE).wait_for()
    watched.press("k")
    watched.page.wait_for_timeout(300)
    assert watched.page.locator("#image").evaluate("image => image.naturalWidth") == 0  # nor is the one before
    assert not (project / decisions.DECISIONS).exists()
    watched.page.unroute_all()  # those that are held go on
    watched.at(2)
    watched.press("k")
    watched.at(3)
    assert list(decided(project)) == [f"cat/{HOSTILE}"]
    watched.context.close()


def test_whom_it_answers(project: Path, server: Server) -> None:
    token = {"x_darkroom_token": server.token, "content_type": "application/json"}
    keep = {"number": 0, "decision": "keep"}
    for path in ("/", "/queue", "/image/0", "/queue?token=wrong", "/queue?token=%C3%A9"):
        assert server.ask("GET", path)[0] == 403, path
    assert server.ask("POST", f"/decision?token={server.token}", keep, content_type="application/json")[0] == 403
    assert server.ask("GET", f"/queue?token={server.token}", Host="evil.example")[0] == 421
    assert server.ask("POST", "/decision", keep, Origin="http://evil.example", **token)[0] == 403
    assert server.ask("POST", "/decision", {**keep, "number": 99}, **token)[0] == 404
    assert server.ask("POST", "/decision", {"number": 0, "decision": "relabel", "label": ".."}, **token)[0] == 422
    assert server.ask("POST", "/decision", {**keep, "note": "x" * 20_000}, **token)[0] in (413, 422)
    assert not (project / decisions.DECISIONS).exists()
    status, content, headers = server.ask("GET", f"/image/0?token={server.token}")
    assert (status, headers["content-type"], headers["x-content-type-options"]) == (200, "image/png", "nosniff")
    assert "default-src 'none'" in headers["content-security-policy"]
    found = json.loads(server.ask("GET", f"/queue?token={server.token}")[1])
    shown = project / "data/raw" / found["items"][0]["image"]["path"]
    assert content != shown.read_bytes()  # encoded anew
    assert np.array_equal(np.array(Image.open(io.BytesIO(content))), np.array(Image.open(shown)))
    picture(shown, 1234)  # other bytes: neither shown nor decided
    assert server.ask("GET", f"/image/0?token={server.token}")[0] == 410
    assert server.ask("POST", "/decision", keep, **token)[0] == 409
    assert not (project / decisions.DECISIONS).exists()
