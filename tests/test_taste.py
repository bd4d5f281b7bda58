"""`darkroom taste`: all stages on a slice of the demo, and nothing of the project changes."""

import re
from pathlib import Path

import pytest

from conftest import darkroom, run
from darkroom.rebuild import taste

pytestmark = pytest.mark.product


def test_a_taste_ends_with_the_table_and_a_page_and_changes_nothing(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With fewer epochs and pixels, which it says only in its mark."""
    monkeypatch.setitem(taste.SMALL_TRAINING, "epochs", 1)
    monkeypatch.setitem(taste.SMALL["images"], "resolution", 32)
    before = run("dvc", "status", cwd=copy)
    assert darkroom("taste", cwd=copy).count(taste.MARK) == 2
    table = capfd.readouterr().out  # of another process
    assert re.search(r"on \d\d test images", table)
    assert "macro F1" in table
    page = (copy / "report/taste.html").read_text(encoding="utf-8")
    assert "The figures mean nothing" in page.split("<h1>")[0]
    assert run("git", "status", "--porcelain", cwd=copy) == ""
    assert run("dvc", "status", cwd=copy) == before
    assert not (copy / "report/index.html").exists()
