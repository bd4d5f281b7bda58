"""Hooks of MkDocs: pages from outside docs/, and links to files that the site does not have.

The pages of docs/ link to the README, to tables of benchmarks and to files of the project, as a forge shows them. On the site the
README is the overview, the changelog and the tables are pages, and the name of another file is plain text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TOP = Path(__file__).resolve().parent.parent
MOVED = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md"}  # path in the project -> path on the site
TABLES = "benchmarks/results"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog, the tables of the benchmarks, and the charts."""
    for path in [TOP / "CHANGELOG.md", *sorted((TOP / TABLES).glob("*.md"))]:
        name = path.relative_to(TOP).as_posix()
        text = path.read_text(encoding="utf-8")
        title = "" if text.startswith("#") else f"# {path.stem.replace('_', ' ')}\n\n"
        files.append(File.generated(config, name, content=title + text))
    for path in sorted((TOP / "plots").glob("*.png")):
        files.append(File.generated(config, path.relative_to(TOP).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn links that lead out of docs/ into links of the site, or into text."""
    generated = page.file.src_uri == "CHANGELOG.md" or page.file.src_uri.startswith(TABLES)
    here = posixpath.dirname(page.file.src_uri if generated else f"docs/{page.file.src_uri}")  # in the project

    def on_site(found: re.Match[str]) -> str:
        target, _, anchor = found[3].partition("#")
        if ":" in target or not target:
            return found[0]
        path = posixpath.normpath(posixpath.join(here, target))
        place = path.removeprefix("docs/") if path.startswith("docs/") else MOVED.get(path, path)
        if files.get_file_from_path(place) is None:
            return found[2]
        link = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        kept = f"#{anchor}" if anchor and path != "README.md" else ""
        return f"{found[1]}[{found[2]}]({link}{kept})"

    return LINK.sub(on_site, markdown)
