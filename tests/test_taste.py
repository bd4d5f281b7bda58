"""`darkroom taste`: all stages on a slice of the demo, and nothing of the project changes."""

import re
from pathlib import Path

import pytest

from conftest import run
from darkroom.rebuild.taste import MARK

pytestmark = pytest.mark.product


def test_a_taste_ends_with_the_table_and_a_page_and_changes_nothing(copy: Path) -> None:
    before = run("dvc", "status", cwd=copy)
    printed = run("darkroom", "taste", cwd=copy)
    assert printed.count(MARK) == 2
    assert re.search(r"on \d\d test images", printed)
    assert "macro F1" in printed
    page = (copy / "report/taste.html").read_text(encoding="utf-8")
    assert "The figures mean nothing" in page.split("<h1>")[0]
    assert run("git", "status", "--porcelain", cwd=copy) == ""
    assert run("dvc", "status", cwd=copy) == before
    assert not (copy / "report/index.html").exists()
