"""docs/how-to/share.md with a remote in S3: moto's server on loopback. Folders as remotes are in test_go_back.py."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import clone_of, commit, run, set_params, write_digits
from test_go_back import changed, commands, model

pytestmark = pytest.mark.product


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that has an empty bucket."""
    pytest.importorskip("moto", reason="moto is not installed: requirements/extras/moto.txt")
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed: requirements/extras/s3.txt")
    for key, value in {"ACCESS_KEY_ID": "tests", "SECRET_ACCESS_KEY": "tests", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _make(f"{address}/my-bucket", server)
        yield address
    finally:
        server.terminate()
        server.wait()


def _make(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Make the bucket as soon as the server answers."""
    for _ in range(300):
        assert server.poll() is None
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def name_remote(project: Path, address: str) -> None:
    script = commands("share.md", "In S3, or on a server that speaks its language")
    lines = [line for line in script.splitlines() if not line.startswith("pip")]
    assert len(lines) == 3
    run("bash", "-ec", "\n".join(lines).replace("https://storage.example.org", address), cwd=project)


def test_a_team_mate_gets_all_from_s3_and_a_model_comes_without_the_project(
    small: Path, tmp_path: Path, bucket: str
) -> None:
    name_remote(small, bucket)
    run("dvc", "push", "--run-cache", cwd=small)
    mate = clone_of(small, tmp_path / "a team-mate's")
    run("dvc", "pull", "--run-cache", cwd=mate)
    assert model(mate) == model(small)
    assert "Running stage" not in run("dvc", "repro", cwd=mate)
    assert changed(mate) == ""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run("dvc", "get", small, "models/scratch.pth", cwd=elsewhere)
    assert (elsewhere / "scratch.pth").read_bytes() == model(small)


def test_what_no_commit_has_is_removed_and_the_rest_stays(small: Path, tmp_path: Path, bucket: str) -> None:
    """Another branch is only on the server, with two commits: the last one keeps its data. An experiment is no commit."""
    name_remote(small, bucket)
    run("dvc", "push", "-q", cwd=small)
    main = model(small)
    run("git", "switch", "-q", "-c", "other", cwd=small)
    others = []
    for lr in (0.02, 0.03):
        set_params(small, {"train_scratch": {"lr": lr}})
        run("dvc", "repro", "-q", cwd=small)
        commit(small, f"Learning rate {lr}")
        run("dvc", "push", "-q", cwd=small)
        others.append(model(small))
    run("git", "switch", "-q", "main", cwd=small)
    mate = clone_of(small, tmp_path / "a team-mate's")
    run("dvc", "pull", "-q", cwd=mate)
    run("dvc", "exp", "run", "-q", "-S", "train_scratch.lr=0.04", cwd=mate)
    of_experiment = model(mate)
    run("dvc", "push", "-q", cwd=mate)
    run("git", "checkout", "-q", "--", ".", cwd=mate)
    run("dvc", "checkout", "-q", cwd=mate)
    script = commands("share.md", "When the cache or the remote grows").replace("<the repository>", f"'{small}'")
    run("bash", "-ec", script.replace("dvc gc", "dvc gc --force"), cwd=mate)
    assert not _is_in(mate / ".dvc/cache", of_experiment)
    for revision, expected in (("main", main), ("origin/other", others[1])):
        run("git", "checkout", "-q", revision, cwd=mate)
        run("dvc", "pull", "-q", cwd=mate)
        assert model(mate) == expected
    run("git", "checkout", "-q", "origin/other~1", cwd=mate)
    assert "failed to pull" in run("dvc", "pull", cwd=mate, code=1)


def test_a_person_is_removed_from_cache_and_remote(small: Path, tmp_path: Path) -> None:
    """By docs/how-to/remove-a-person.md. The model that was trained on the images goes, too; the new one has never seen them."""
    page = "remove-a-person.md"
    run("dvc", "remote", "add", "-d", "team", tmp_path / "remote", cwd=small)
    write_digits(tmp_path / "more", 62)
    (small / "data/raw/digit-0/patient-17").mkdir()
    images = [tmp_path / f"more/digit-0/06{digit}.png" for digit in (0, 1)]
    for image in images:
        shutil.copy(image, small / "data/raw/digit-0/patient-17")
    run("dvc", "add", "-q", "data/raw", cwd=small)
    run("dvc", "repro", "-q", cwd=small)
    commit(small, "With this person")
    run("dvc", "push", "-q", cwd=small)
    gone = [*(image.read_bytes() for image in images), model(small)]
    assert all(_is_in(tmp_path / "remote", content) for content in gone)
    script = commands(page, "From now on").replace("darkroom run", "dvc repro")  # one model makes no table
    script = script.replace(" && git push", "")  # there is no server
    run("bash", "-ec", script, cwd=small)
    run("dvc", "push", "-q", cwd=small)
    for line in commands(page, "From the cache and the remote").splitlines():
        run(*line.split(), "--force", cwd=small)
    for place in (small / ".dvc/cache", tmp_path / "remote"):
        assert not any(_is_in(place, content) for content in gone)
        assert _is_in(place, model(small))
    assert "patient-17" not in (small / "data/manifest.csv").read_text()


def _is_in(folder: Path, content: bytes) -> bool:
    """Whether a file of DVC's cache or remote has this content."""
    files = (folder / "files/md5").rglob("*")
    return any(file.read_bytes() == content for file in files if file.is_file() and file.stat().st_size == len(content))
