"""Take docs/images/page.png, the picture in the README, of report/index.html: `python docs/page_picture.py`.

The demo's images are not part of this repository, so that the sections that show them are hidden. Needs Chromium and
`pip install -r requirements/extras/browser.txt`.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

TOP = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 1180, 1190  # pixels: verdict, what to watch, curves
HIDDEN = "#data-set { display: none }"


def main() -> None:
    """Take it."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto((TOP / "report/index.html").as_uri())
        page.add_style_tag(content=HIDDEN)
        page.wait_for_timeout(2000)  # the charts are drawn
        page.screenshot(path=TOP / "docs/images/page.png")


if __name__ == "__main__":
    main()
