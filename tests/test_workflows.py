"""The workflows of .github: what they run, and what the comment on a pull request lets through."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from conftest import ROOT, clone_of, commit, darkroom, run, vouch

COMMIT = "a" * 40
FILES = f"https://github.com/someone/fork/raw/{COMMIT}/"
# Stands in for GitHub's `gh`: the pull request 7 at COMMIT, with OLD as the comment that is there. What is sent goes to sent.md.
GH = f"""#!/bin/bash
echo "$@" >> calls
case "$*" in
  *pulls*) echo "7 {COMMIT}" ;;
  *--paginate*) echo "$OLD" ;;
  *) cp body.md sent.md ;;
esac
"""
HOSTILE = f"""# Darkroom's report
@octocat &#64;octocat <b>bold</b> <script>alert(1)</script> <!-- hidden <https://evil.example>
[a link](https://evil.example) [a link](/settings) ![a picture](https://evil.example/x.png) [another][one] www.evil.example
[one]: https://evil.example
#1 someone/else#1 GH-1 someone@example.org\r## A heading after a carriage return
```mermaid
~~~
$$x$$
![confusion]({FILES.replace("someone", "another")}plots/confusion.png)
![confusion]({FILES}plots/../../confusion.png)
![a](../secret.png)
![a](b.png) @octocat
"""


def step(workflow: str, name: str) -> dict[str, Any]:
    """A step of a workflow by its name."""
    (job,) = yaml.safe_load((ROOT / ".github/workflows" / workflow).read_text())["jobs"].values()
    return next(one for one in job["steps"] if one.get("name") == name)


def posted(folder: Path, report: str | bytes | None, old: str = "", head: str = COMMIT) -> str:
    """The comment that comment.yml posts for a report."""
    (folder / "gh").write_text(GH)
    (folder / "gh").chmod(0o755)
    if report is not None:
        (folder / "report").mkdir(exist_ok=True)
        (folder / "report/report.md").write_bytes(report.encode() if isinstance(report, str) else report)
    script = step("comment.yml", "Post or rewrite the comment")["run"]
    path = f"{folder}:/usr/bin:/bin"
    run(
        "bash", "-c", script, cwd=folder, PATH=path, REPOSITORY="us/project", HEAD="someone:idea", COMMIT=head, FILES=FILES,
        RUN="https://github.com/us/project/actions/runs/1", RESULT="failure", OLD=old,
    )  # fmt: skip
    sent = folder / "sent.md"
    return sent.read_text() if sent.exists() else ""


def below(comment: str) -> str:
    """What the code of the pull request wrote."""
    return comment.split("\n---\n", 1)[1]


def test_a_comment_names_commit_and_author_and_defuses(tmp_path: Path) -> None:
    comment = posted(tmp_path, HOSTILE)
    assert comment.startswith(f"<!-- darkroom report -->\nReport on commit {COMMIT[:10]} ([log](https://")
    assert COMMIT not in comment.split("\n---\n")[0]
    assert "The code of this pull request has written what follows" in comment
    text = below(comment)
    for mention in (r"@\w", r"&#?\w", r"<[\w!/]", r"\]\(", r"\]\[", r"\]:", "://", r"www\.", r"#\d", r"GH-\d", "\r"):
        assert not re.search(mention, text), mention
    assert not re.search(r"^\W*(```|~~~)", text, re.M)
    shown = MarkdownIt("commonmark").enable("table").render(text)
    assert not re.findall(r"<(?!/?(?:p|h1|h2)>)[^>]*>", shown.replace("<br />", ""))


def test_a_comment_on_a_run_without_a_report_replaces_the_old_one(tmp_path: Path) -> None:
    comment = posted(tmp_path, None, old="55")
    assert f"Report on commit {COMMIT[:10]} " in comment
    assert "result: failure" in comment
    assert "The run ended before it wrote a report." in comment
    assert "--method PATCH repos/us/project/issues/comments/55" in (tmp_path / "calls").read_text()


def test_an_old_commit_gets_no_comment(tmp_path: Path) -> None:
    assert posted(tmp_path, "# Fine", head="b" * 40) == ""


def test_a_link_is_not_posted(tmp_path: Path) -> None:
    """An artifact may hold one to a file of the machine that has the token."""
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "report").mkdir()
    (tmp_path / "report/report.md").symlink_to("../secret")
    assert "s3cret" not in posted(tmp_path, None)


@pytest.mark.parametrize("report", [b"@" * 100_000, b"\xff\xfe@all\x00", "é" * 40_000])
def test_a_comment_is_never_too_long_or_damaged(report: bytes | str, tmp_path: Path) -> None:
    comment = posted(tmp_path, report)
    assert 250 < len(comment) <= 65_536
    assert "@all" not in comment


def test_the_real_report_survives(rebuilt: Path, tmp_path: Path) -> None:
    """Its tables, folded parts and charts are still there, and nothing else of it is a link or HTML."""
    clone = clone_of(rebuilt, tmp_path / "a clone")
    run("git", "switch", "-q", "-c", "idea", cwd=clone)
    for name in ("confusion", "roc", "reliability", "curves", "tsne"):
        with (clone / f"plots/{name}.png").open("ab") as stream:
            stream.write(b"another chart")
    predictions = clone / "plots/predictions.csv"
    lines = [line for line in predictions.read_text().splitlines() if not line.startswith("scratch,")]
    finetune = [line.replace("finetune,", "scratch,", 1) for line in lines if line.startswith("finetune,")]
    predictions.write_text("\n".join([lines[0], *finetune, *lines[1:]]) + "\n")  # from scratch has become as good
    vouch(clone, {"evaluate": {"bins": 5}})
    commit(clone, "Fewer bins")
    darkroom("pr-report", "main", "--pictures", FILES, cwd=clone)
    report = (clone / "report/report.md").read_text()
    text = below(posted(tmp_path, report))
    assert "\nPicture: `confusion_scratch.png` in the artifact of the run.\n" in text
    assert report.count("![confusion_scratch](confusion_scratch.png)") == 1
    assert text.strip().splitlines()[0] == report.splitlines()[0]
    report = re.sub(r"^!\[\w+\]\((\w+\.png)\)$", r"Picture: `\1` in the artifact of the run.", report, flags=re.M)
    page, original = (MarkdownIt("commonmark").enable("table").render(one) for one in (text, report))
    for tag in ("<td", "<th", "<code>", "<li>", "<h3>", "<details>", "</details>", "<summary>"):
        assert page.count(tag) == original.count(tag) > 0, tag
    assert re.findall(r"<img src=\"[^\"]*/(\w+)\.png", page) == ["confusion", "roc", "reliability", "curves", "tsne"]
    assert "<a " not in page


@pytest.mark.parametrize(("code", "ends", "again"), [(0, 0, False), (1, 0, True), (2, 2, False), (124, 0, False)])
def test_the_report_is_written_where_a_rebuild_is_right_wrong_or_too_slow(
    code: int, ends: int, again: bool, tmp_path: Path
) -> None:
    """A rebuild that gives other bytes runs in place, so that the report has its figures. One that fails ends the run."""
    program = tmp_path / ".venv/bin/darkroom"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/bash\necho $@ >> calls\n[ $1 = run ] || exit {code}\n")
    program.chmod(0o755)
    script = step("report.yml", "Rebuild the commit and compare with its dvc.lock")["run"]
    run("bash", "-e", "-c", script, cwd=tmp_path, code=ends)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["verify --report report/rebuilt.json", *(["run --force"] if again else [])]


def test_images_of_a_private_remote_come_by_a_secret_that_is_gone_afterwards(small: Path, tmp_path: Path) -> None:
    """A pull request from a fork has no secret: its report is written without a rebuild."""
    run("dvc", "remote", "add", "--default", "team", tmp_path / "remote", cwd=small)
    run("dvc", "push", "--quiet", cwd=small)
    run("dvc", "remote", "modify", "team", "url", "/nowhere", cwd=small)
    commit(small, "A remote that needs a secret")
    clone = clone_of(small, tmp_path / "of a fork")
    script = step("report.yml", "Get the images")["run"].replace(".venv/bin/python", shlex.quote(sys.executable))
    done = tmp_path / "done"
    for secret, got in (("", "no"), (f"['remote \"team\"']\n    url = {tmp_path / 'remote'}", "yes")):
        printed = run("bash", "-e", "-c", script, cwd=clone, CONFIG=secret, GITHUB_OUTPUT=str(done))
        assert ("neither DVC's cache nor a remote has the images" in printed) == (got == "no")
        assert done.read_text().splitlines()[-1] == f"got={got}"
        assert (clone / "data/raw").exists() == (got == "yes")
        assert not (clone / ".dvc/config.local").exists()


@pytest.mark.fast
def test_a_workflow_runs_all_checks() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "make test" in [step.get("run") for step in workflow["jobs"]["test"]["steps"]]


def test_workflows_are_sound() -> None:
    """zizmor: among others that no untrusted code meets a token that can write."""
    run(Path(sys.executable).parent / "zizmor", "--offline", "--quiet", ".github/workflows", cwd=ROOT)
