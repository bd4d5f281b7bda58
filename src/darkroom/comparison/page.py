"""A comparison as an HTML page, with the images that changed between right and wrong."""

from pathlib import Path

from jinja2 import Environment
from markdown_it import MarkdownIt

from darkroom.comparison.compare import Comparison
from darkroom.comparison.text import as_markdown, interleaved
from darkroom.data.manifest import path_in_side
from darkroom.results import images
from darkroom.results.revision import Revision
from darkroom.system import files
from darkroom.system.errors import UserError

SHOWN = 100  # images at most
THUMBNAIL = 128  # pixels on the longer side
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ comparison.base }} to {{ comparison.head }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
  table { border-collapse: collapse; margin: 1rem 0 } td, th { border: 1px solid #bbb; padding: .2rem .6rem }
  .flips { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; width: 11rem }
  figcaption { font-size: .8rem; overflow-wrap: anywhere } .right { color: #0072b2 } .wrong { color: #b34700 }
</style>
{{ text | safe }}
<h2>Images that changed between right and wrong ({{ comparison.flips | length -}}
{% if shown | length < comparison.flips | length %}, the first {{ shown | length }} of them{% endif %})</h2>
<div class="flips">{% for flip, image in shown %}<figure><img src="{{ image }}" alt="">
<figcaption><b class="{{ 'right' if flip.head == flip.actual else 'wrong' }}">
{{ "now right" if flip.head == flip.actual else "now wrong" }}</b>, {{ comparison.titles[flip.model] }}<br>{{ flip.path }}<br>
class: {{ flip.actual }}<br>predicted: {{ flip.base }} &rarr; {{ flip.head }}</figcaption></figure>
{% endfor %}</div></html>
"""


def write(comparison: Comparison, head: Revision, path: Path) -> None:
    """Write a page that needs no other file: the comparison, and up to 100 images that changed between right and wrong.

    Raises:
        UserError: `path` cannot be written.
    """
    rows = {path_in_side(row): row for row in head.manifest if row.split == "test"}
    shown = [
        (flip, images.data_uri(images.fetch(rows[flip.path], head.commit), THUMBNAIL))
        for flip in interleaved(comparison.flips, SHOWN)
    ]
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(as_markdown(comparison, flips=False))
    page = Environment(autoescape=True).from_string(PAGE).render(comparison=comparison, text=text, shown=shown)
    try:
        files.write_bytes(path, page.encode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--html {path}: the page cannot be written ({error}): name a file in a folder to which you can write"
        ) from None
