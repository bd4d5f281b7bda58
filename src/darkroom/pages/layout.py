"""A page as one file of HTML: styles, scripts, charts and pictures are in it, and it loads nothing.

A policy in the page forbids every request, and every script but its own two: the text of a file's or class's name stays text.
"""

import base64
import hashlib
import json
import re
from contextlib import suppress
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from darkroom.system import files
from darkroom.system.errors import UserError

FILES = resources.files("darkroom.pages") / "page"
KEPT = Path(".darkroom")  # ignored by Git
VEGA_LITE = "6.4"  # it draws what DVC's templates of version 5 say, too


def render(template: str, context: dict[str, Any], data: dict[str, Any]) -> str:
    """The page of a `template` in page/, with `data` for its script (page/page.js says which keys)."""
    environment = Environment(
        loader=FileSystemLoader(str(FILES)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = with_code
    scripts = [vega(), (FILES / "page.js").read_text(encoding="utf-8")]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return environment.get_template(template).render(
        **context,
        policy=Markup(
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes} 'unsafe-eval'; "
            "base-uri 'none'; form-action 'none'"
        ),
        style=Markup((FILES / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(as_script_data(data)),
    )


def as_script_data(data: dict[str, Any]) -> str:
    """`data` as JSON that can stand in a <script>: no text in it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def as_html(markdown: str) -> Markup:
    """Markdown as HTML. Whatever looks like HTML in it is shown as text."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))


def with_code(text: str) -> Markup:
    """A sentence as HTML; what stands between two backticks is a <code>."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def write(page: str, path: Path, option: str) -> None:
    """Write a page to `path`, all of it or nothing.

    Raises:
        UserError: `path` cannot be written. The message names the `option` that gave it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, page.encode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{option} {path}: the page cannot be written ({error}): name a file in a folder to which you can write"
        ) from None


def vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script that sets `vegaEmbed`. It is kept, since making it takes three seconds."""
    kept = KEPT / f"vega-lite-{VEGA_LITE}-of-{version('vl-convert-python')}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    import vl_convert  # slow to import

    # It holds no </script>, which would end its element.
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    with suppress(OSError):
        files.write_bytes(kept, script.encode())
    return script


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
