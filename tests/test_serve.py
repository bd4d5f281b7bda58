"""`darkroom serve`: what it answers, to whom, and that no upload ends it."""

import asyncio
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("fastapi_offline", reason="needs FastAPI and more: pip install -r requirements/extras/serve.txt")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install -r requirements/extras/serve.txt")

import handmade
from conftest import surroundings, wait_until_none
from darkroom.evaluation import conformal
from darkroom.inference import from_checkpoint, predict
from darkroom.networks import checkpoint, registry
from darkroom.serving import decoders, guard, pages
from darkroom.serving import server as serving
from darkroom.system import parallel
from darkroom.system.errors import UserError

OPTIONS: dict[str, Any] = {"width": 8, "blocks": 2, "dropout": 0.0}
CLASSES = ["cat", "<img src=x onerror=\"document.title='broken'\">", "7"]
MEGABYTES, MEGAPIXELS, FILES, REQUESTS = 1, 5, 20, 4
BOUNDARY = "----boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
Answer = tuple[int, dict[str, str], Any]


class Server:
    """A server in a process of its own."""

    def __init__(self, model: Path, *words: str) -> None:
        command = [
            str(Path(sys.executable).with_name("darkroom")),
            "serve",
            "--model",
            str(model),
            "--port",
            "0",
            *words,
        ]
        if not Path(command[0]).exists():
            command[:1] = [sys.executable, "-c", "from darkroom.cli import main; main()"]
        self.process = subprocess.Popen(
            command, cwd=model.parent, env=surroundings(), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stderr
        self.greeting = next(line for line in self.process.stderr if "http://" in line)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.greeting)
        assert found
        self.port = int(found[1])

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Status, headers (lower case), and content of an answer: JSON, or bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}), **options)
            answer = connection.getresponse()
            content = answer.read()
            found = {key.lower(): value for key, value in answer.getheaders()}
            is_json = found.get("content-type") == "application/json"
            return answer.status, found, json.loads(content) if is_json else content

    def classify(self, *contents: bytes, **fields: str) -> Answer:
        """What it says about images."""
        named = [(f"{number}.png", content) for number, content in enumerate(contents)]
        return self.ask("POST", "/predict", form(named, fields), FORM)

    def children(self) -> list[int]:
        """Its processes that decode."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in found.split()]

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """Its exit code, and what it said."""
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


def form(files: Sequence[tuple[str, bytes]], fields: Mapping[str, str] | None = None, field: str = "files") -> bytes:
    """A form as browsers send it."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in (fields or {}).items()
    ]
    for name, content in files:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        parts.append(head.encode() + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def picture(seed: int, kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> bytes:
    """An image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(side: int, *chunks: bytes, rows: int = 0) -> bytes:
    """A PNG file that says that it is large, with `rows` rows of nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes((4 * side + 1) * rows), 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, alone in a folder beside a secret."""
    torch.manual_seed(0)
    made = handmade.model_of(registry.build("small_cnn", OPTIONS, 3), "small_cnn", OPTIONS, 32, ["horizontal"])
    about = replace(made.about, classes=CLASSES)
    path = tmp_path_factory.mktemp("served") / "m.pth"
    checkpoint.save(path, made.network, about, made.calibration, {})
    (path.parent / "secret.txt").write_text("secret")
    return path


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    words = ["--max-megabytes", MEGABYTES, "--max-megapixels", MEGAPIXELS]
    words += ["--max-files", FILES, "--max-requests", REQUESTS, "--error-rate", 0.1]
    started = Server(model, *map(str, words))
    yield started
    started.end(signal.SIGINT)


def expected(model: Path, contents: Sequence[bytes], folder: Path) -> list[predict.Prediction]:
    """What `darkroom predict` says about these files."""
    for number, content in enumerate(contents):
        (folder / f"{number}.png").write_bytes(content)
    asked = from_checkpoint.load(model)
    limits = conformal.limits_of(asked.known, len(asked.classes), 0.1)
    return list(predict.predict(asked, [str(folder / f"{number}.png") for number in range(len(contents))], limits))


def test_it_says_what_predict_says(server: Server, model: Path, tmp_path: Path) -> None:
    """For formats that are decoded in other ways, in one request and one by one; and for files that cannot be read."""
    contents = [
        picture(0),
        picture(1, "JPEG"),
        picture(2, mode="RGBA"),
        picture(3, "TIFF", "L"),
        picture(4, "GIF", "P"),
    ]
    contents += [b"no image", b"", picture(5)[:900], picture(6, size=(2300, 2300), mode="1")]
    wanted = expected(model, contents[:-1], tmp_path)
    status, _, content = server.classify(*contents, explain="true")
    assert status == 200
    assert len(content["results"]) == len(contents)
    for row, own in zip(content["results"][:-1], wanted, strict=True):
        if own.reason:
            assert row["reason"].split(":")[0] == own.reason.split(":")[0]
            continue
        probabilities = dict(zip(CLASSES, own.probabilities, strict=True))
        assert row["probabilities"] == pytest.approx(probabilities, abs=1e-6)
        assert row["class"] == CLASSES[own.probabilities.argmax()]
        assert row["answer"] == own.answer
        assert row["set"] == [CLASSES[k] for k in np.flatnonzero(own.in_set)]
        assert row["heat"].startswith("data:image/png;base64,iVBOR")
    assert [bool(row.get("reason")) for row in content["results"]] == [False] * 5 + [True] * 4
    assert "megapixels" in content["results"][-1]["reason"]
    for content_of_one, row in zip(contents[:5], content["results"], strict=False):
        status, _, alone = server.classify(content_of_one)
        assert status == 200
        assert "heat" not in alone["results"][0]
        assert alone["results"][0]["probabilities"] == pytest.approx(row["probabilities"], abs=1e-6)


def test_what_it_refuses(server: Server) -> None:
    image = picture(0)
    good = form([("x.png", image)])
    bomb = png(20_000, rows=300)
    text = png(20, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(300_000_000), 9)), rows=20)
    own = f"127.0.0.1:{server.port}"
    for wanted, sentence, body, headers in [
        (422, "field 'files'", b"", FORM),
        (415, "multipart", b"", {}),
        (415, "multipart", image, {"Content-Type": "image/png"}),
        (415, "multipart", b"{}", {"Content-Type": "application/json"}),
        (400, "boundary", good, {"Content-Type": "multipart/form-data"}),
        (400, "cut off", form([("x.png", image)] * 2)[:-100], FORM),
        (400, "cut off", good.removesuffix(b"--\r\n"), FORM),
        (400, "", b"--what" + good, FORM),
        (422, "field 'files'", form([("x.png", image)], field="file"), FORM),
        (422, "field 'files'", form([], {"files": "x"}), FORM),
        (422, "is empty", form([("x.png", b"")]), FORM),
        (422, "400 megapixels", form([("x.png", bomb)]), FORM),
        (422, "cannot be decoded", form([("x.png", text)]), FORM),
        (422, "is not an image", form([("../../secret.txt", b"PK\3\4" + bytes(1000))]), FORM),
        (400, "files", form([("x.png", image)] * (FILES + 1)), FORM),
        (413, "", form([("x.png", bytes(2_000_000))]), FORM),
        (421, "--allow-host", good, {**FORM, "Host": "evil.example"}),
        (421, "--allow-host", good, {**FORM, "Host": f"evil.example:{server.port}"}),
        (403, "another site", good, {**FORM, "Origin": "https://evil.example"}),
        (403, "another site", good, {**FORM, "Origin": "null"}),
        (403, "another site", good, {**FORM, "Origin": "http://["}),
        (403, "another site", good, {**FORM, "Origin": f"http://127.0.0.1:{server.port + 1}"}),
        (200, "", good, {**FORM, "Origin": f"http://{own}", "Host": own}),
        (200, "", good, {**FORM, "Origin": f"http://localhost:{server.port}", "Host": f"localhost:{server.port}"}),
    ]:
        status, _, content = server.ask("POST", "/predict", body, headers)
        assert (status, sentence in str(content)) == (wanted, True), (
            wanted,
            sentence,
            status,
            content,
            body[:60],
            headers,
        )
    assert server.ask("GET", "/model", headers={"Host": "evil.example"})[0] == 421


def test_a_body_that_does_not_end_is_refused_while_it_streams_in(server: Server) -> None:
    """Without a length. It is a hundred times the limit, but for the server it ends at the limit."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield form([("x.png", b"")]).removesuffix(f"\r\n--{BOUNDARY}--\r\n".encode())
        for _ in range(1000):
            sent += 1
            yield bytes(100_000)

    with contextlib.suppress(ConnectionError):
        status, _, content = server.ask("POST", "/predict", endless(), FORM, encode_chunked=True)
        assert status == 413, content
    assert server.ask("GET", "/healthz")[2] == {"status": "ok"}


def test_requests_that_are_broken_off_leave_the_server_as_it_was(server: Server) -> None:
    body = form([("x.png", picture(0))])
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\n"
    for sent in (
        head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:200],
        head.encode() + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        head.encode() + b"Content-Length: -5\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"A" * 200_000,
    ):
        for _ in range(3):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 30) as raw:
                raw.sendall(sent)
                raw.shutdown(socket.SHUT_WR)
                raw.recv(1000)
    assert server.classify(picture(0))[0] == 200
    assert server.process.poll() is None


def test_only_so_many_uploads_at_a_time(server: Server) -> None:
    body = form([("x.png", picture(0))])
    slow = []
    for _ in range(REQUESTS):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        connection.putrequest("POST", "/predict")
        for key, value in {**FORM, "Content-Length": str(len(body))}.items():
            connection.putheader(key, value)
        connection.endheaders(body[:100])
        slow.append(connection)
    deadline = time.monotonic() + 30
    while (refused := server.classify(picture(0)))[0] == 200:
        assert time.monotonic() < deadline
    assert refused[0] == 503
    assert int(refused[1]["retry-after"]) >= 1
    assert server.ask("GET", "/healthz")[0] == 200  # pages are answered meanwhile
    for connection in slow:
        connection.send(body[100:])
        assert connection.getresponse().status == 200
        connection.close()
    assert server.classify(picture(0))[0] == 200


def test_under_load_none_is_lost_and_all_are_right(server: Server, model: Path, tmp_path: Path) -> None:
    """12 clients of 10 requests each, some with files that cannot be read; who is refused asks again."""
    contents = [picture(seed) for seed in range(6)]
    wanted = [own.probabilities for own in expected(model, contents, tmp_path)]
    statuses: Counter[int] = Counter()

    def client(number: int) -> int:
        right = 0
        for turn in range(10):
            which = (number + turn) % 6
            files = [contents[which], b"no image"] if turn % 3 else [contents[which]]
            deadline = time.monotonic() + 60
            while (answer := server.classify(*files))[0] == 503 and time.monotonic() < deadline:
                statuses[503] += 1
                time.sleep(0.05)
            statuses[answer[0]] += 1
            found = answer[2]["results"][0]["probabilities"]
            right += np.allclose([found[name] for name in CLASSES], wanted[which], atol=1e-6, rtol=0)
        return right

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(client, range(12))) == 120
    assert statuses[200] == 120
    assert set(statuses) <= {200, 503}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="lists processes by /proc")
def test_a_decoder_that_is_killed_is_replaced(server: Server) -> None:
    for pid in server.children():
        os.kill(pid, signal.SIGKILL)
    assert server.classify(picture(0), picture(1), picture(2))[0] in {200, 422}
    assert server.classify(picture(0))[0] == 200
    assert server.process.poll() is None


def test_a_decoder_that_stalls_or_dies_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 1)

    async def die(process: Any, _: bytes) -> None:
        os.kill(process.pid, signal.SIGKILL)
        await process.stdout.readexactly(1)

    async def stall_and_die() -> list[Any]:
        async with decoders.running(32, 5) as some:
            place = some.idle._queue[0]  # type: ignore[attr-defined]
            answers: list[Any] = [await some.pixels(picture(0))]
            for how in (signal.SIGSTOP, signal.SIGKILL):
                os.kill(place.process.pid, how)
                monkeypatch.setattr(decoders, "SECONDS", 1)
                answers.append(await some.pixels(picture(0)))
                monkeypatch.setattr(decoders, "SECONDS", 60)
                answers.append(await some.pixels(picture(0)))
            files = list(place.file.parent.iterdir())
            monkeypatch.setattr(decoders, "_ask", die)
            answers.append(await some.pixels(picture(0)))
        assert not files
        assert not place.file.parent.exists()
        return answers

    first, stalled, second, died, third, died_twice = asyncio.run(stall_and_die())
    assert died_twice == "kills its decoder"
    assert stalled == "takes longer than 1 seconds to decode"
    for again in (second, died, third):  # a file is tried twice, as the process may have died for another reason
        assert (first == again).all()


def test_pages_and_no_other_files(server: Server) -> None:
    for path, kind in {"/": "text/html", "/docs": "text/html", "/page.js": "text/javascript"}.items():
        status, headers, content = server.ask("GET", path)
        assert status == 200
        assert headers["content-type"].startswith(kind)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert not re.search(rb"(?:src|href)=\"(?:https?:)?//", content)
    described = server.ask("GET", "/openapi.json")[2]
    assert set(described["paths"]) == {"/healthz", "/model", "/predict"}
    for path in ("secret.txt", "..%2fsecret.txt", "%2e%2e/%2e%2e/etc/passwd", "page/../page.js", "static/app.py"):
        for start in ("/", "/docs/", "/page.js/", "//"):
            assert server.ask("GET", start + path)[0] in {404, 307}
    status, _, about = server.ask("GET", "/model")
    assert status == 200
    assert (about["title"], about["classes"], about["explains"]) == ("handmade", CLASSES, True)


def test_an_exported_model_and_the_end(model: Path, tmp_path: Path) -> None:
    """Without heat maps and torch. Ctrl-C ends it with the processes that it started."""
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install -r requirements/extras/export.txt")
    pytest.importorskip("onnxscript", reason="needs onnxscript: pip install -r requirements/extras/export.txt")
    from darkroom.inference import export

    exported = tmp_path / "m.onnx"
    exported.write_bytes(export.as_onnx(registry.load(model), "0" * 64))
    started = Server(exported)
    (own,) = expected(model, [picture(0)], tmp_path)
    status, _, content = started.classify(picture(0), explain="true")
    assert status == 200
    assert list(content["results"][0]["probabilities"].values()) == pytest.approx(
        sorted(own.probabilities)[::-1], abs=1e-5
    )
    assert "heat" not in content["results"][0]
    assert started.ask("GET", "/model")[2]["explains"] is False
    if Path("/proc/self/maps").exists():
        assert "libtorch" not in Path(f"/proc/{started.process.pid}/maps").read_text()
        children = started.children()
        assert children
    code, said = started.end(signal.SIGINT)
    assert code == 0
    assert "ended" in said
    assert "Traceback" not in said
    if Path("/proc/self/maps").exists():
        wait_until_none(lambda: [path for pid in children if (path := Path(f"/proc/{pid}")).exists()])


def test_mistakes_are_one_sentence(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for host, message in {
            "127.0.0.1": f"cannot listen on port {port} of 127.0.0.1",
            "no such host": "--host no such host: there is no such address",
            "a" * 300: "there is no such address",
            "192.0.2.1": "cannot listen",
        }.items():
            choices = serving.Choices(host, port, 0.1, 1, 1, 1, 1, [])
            with pytest.raises(UserError, match=message):
                serving.run(model, choices)
    monkeypatch.setitem(sys.modules, "fastapi_offline", None)
    with pytest.raises(UserError, match=r"needs fastapi_offline: `pip install -r requirements/extras/serve\.txt`"):
        serving.run(model, serving.Choices("127.0.0.1", 0, 0.1, 1, 1, 1, 1, []))


@pytest.mark.fast
def test_whom_it_serves() -> None:
    names = guard.names_of("0.0.0.0", ["Lab.example"])
    for host in (
        "127.0.0.1:8000",
        "127.0.0.1",
        "[::1]:8000",
        "10.0.0.7:80",
        "localhost",
        "LOCALHOST:1",
        "lab.example:9",
    ):
        assert guard.is_own(host, names), host
    for host in ("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:x", "a@127.0.0.1"):
        assert not guard.is_own(host, names), host
    for host in (
        "127.0.0.1/evil",
        "evil.example#localhost",
        "localhost ",
        "[::1",
        "127.1",
        "0x7f.1",
        "lab.example.org",
    ):
        assert not guard.is_own(host, names), host


def test_a_request_that_takes_too_long_to_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "UPLOAD_SECONDS", 0.05)

    async def silent() -> Any:
        await asyncio.sleep(60)

    from starlette.exceptions import HTTPException

    with pytest.raises(HTTPException) as raised:
        asyncio.run(guard.whole(silent, "")())  # type: ignore[arg-type]
    assert raised.value.status_code == 408


@pytest.mark.fast
def test_the_page_is_in_the_package() -> None:
    names = {"index.html", "base.css", "page.css", "page.js", "docs.html", "docs.js"}
    assert {path.name for path in pages.PAGE.iterdir()} == names
    assert "innerHTML" not in (pages.PAGE / "page.js").read_text()
