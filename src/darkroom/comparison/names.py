"""What a comparison calls its two sides and the models in Markdown. Names of commits, branches and models are hostile text."""

import re
from collections.abc import Mapping
from dataclasses import replace

from darkroom.comparison.compare import Comparison
from darkroom.results.revision import Revision
from darkroom.system import git
from darkroom.system.markdown import abbreviated, cell, code

PLAIN = r"[\w ().,+-]+"


def for_markdown(comparison: Comparison) -> Comparison:
    """The comparison with the names of commits abbreviated, and with titles of models that cannot write Markdown."""
    base, head = (abbreviated(name) for name in (comparison.base, comparison.head))
    return replace(comparison, base=base, head=head, titles=safe(comparison.titles))


def safe(titles: Mapping[str, str]) -> dict[str, str]:
    """Model -> its title. One with other characters than letters, digits and those of names is shown as code."""
    return {model: title if re.fullmatch(PLAIN, title) else cell(title) for model, title in titles.items()}


def side(revision: Revision) -> str:
    """A side of a pull request as Markdown: its branch or tag, if there is one, and its commit."""
    commit = revision.commit or git.read("rev-parse", "HEAD")
    name = revision.name if revision.commit else git.read("rev-parse", "--abbrev-ref", "HEAD")
    if name == "HEAD" or re.fullmatch("[0-9a-f]{7,64}", name):
        name = _pointing_at(commit)
    number = code(abbreviated(commit))
    return f"{code(name)} ({number})" if name else number


def _pointing_at(commit: str) -> str:
    """The first tag, or else the first branch, that names the commit. "" if none does."""
    kinds = ("refs/tags", "refs/heads", "refs/remotes")
    found = git.read("for-each-ref", f"--points-at={commit}", "--format=%(refname:short)", *kinds).splitlines()
    return next((name for name in found if not name.endswith("HEAD")), "")
