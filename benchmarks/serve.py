"""Requests a second and latency of `darkroom serve` on this machine, and whether one is lost.

    python benchmarks/serve.py [--model models/finetune.pth] [--images data/split/test] [--seconds 8] [--rounds 3]

Each client is a thread of this process that sends a request, waits for the answer, and sends the next one over the same
connection. It checks that each image has the probabilities that it had first. A client that is told to come back (503,
Retry-After) does so. An answer that does not come, or is another one, counts as lost. A round is `seconds` for each row of the
table. The clients take some of what they measure.
"""

import http.client
import json
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import common
from darkroom.serving import guard

IMAGES = 40  # different ones
BOUNDARY = "----boundary"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
# name -> clients, images in a request, whether heat maps are asked for
ROWS = {
    "1 client": (1, 1, False),
    "4 clients": (4, 1, False),
    "16 clients, 8 let in at a time": (16, 1, False),
    "4 clients, 8 images a request": (4, 8, False),
    "1 client, with heat map": (1, 1, True),
}


@dataclass
class Count:
    """What the clients of a row saw.

    Attributes:
        latencies: Seconds from sending a request that was answered to its answer.
        busy: Answers 503.
        lost: Requests without an answer, or with another one than before.
        seconds: From the first request to the last answer.
    """

    latencies: list[float] = field(default_factory=list)
    busy: int = 0
    lost: int = 0
    seconds: float = 0.0


def main() -> None:
    """Print the table, and write it to serve.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="models/finetune.pth", help="a checkpoint, or an exported model")
    parser.add_argument("--images", type=Path, default=Path("data/split/test"))
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    paths = sorted(options.images.rglob("*.png"))
    bodies = [path.read_bytes() for path in paths[:: max(1, len(paths) // IMAGES)][:IMAGES]]
    counts: dict[str, list[Count]] = {name: [] for name in ROWS}
    with serving(options.model) as port:
        can_explain = json.loads(ask(http.client.HTTPConnection("127.0.0.1", port), "GET", "/model")[1])["explains"]
        rows = {name: row for name, row in ROWS.items() if can_explain or not row[2]}
        for number in range(options.rounds):
            for name, (clients, images, heat) in rows.items():
                counts[name].append(measure(port, clients, requests_of(bodies, images, heat), options.seconds))
                print(f"round {number + 1}, {name}: {len(counts[name][-1].latencies)} answers", flush=True)
    text = common.table(
        ["clients", "requests a second", "p50 ms", "p99 ms", "n", "503", "lost"],
        [row_of(name, counts[name], options.seconds) for name in rows],
    )
    text += (
        f"\nMedian (range) of {options.rounds} rounds of {options.seconds:g} seconds; n, 503 and lost are sums. p50 and p99 are "
        f"over all requests that were answered. {len(bodies)} images of the demo, {options.model}, on loopback, clients on the "
        "same machine. "
        f"{common.here('torch', 'fastapi', 'uvicorn')}. `python benchmarks/serve.py --model {options.model}`\n"
    )
    common.publish(text, options.results / "serve.md")


def row_of(name: str, counts: Sequence[Count], seconds: float) -> list[str]:
    """A row of the table."""
    latencies = sorted(1000 * one for count in counts for one in count.latencies)
    centiles = statistics.quantiles(latencies, n=100, method="inclusive")
    rate = common.spread((len(count.latencies) / (count.seconds or seconds) for count in counts), ".1f")
    sums = (len(latencies), sum(count.busy for count in counts), sum(count.lost for count in counts))
    return [name, rate, f"{centiles[49]:.0f}", f"{centiles[98]:.0f}", *map(str, sums)]


@contextmanager
def serving(model: str) -> Iterator[int]:
    """Yield the port of a server that ends with the block."""
    command = common.command("darkroom", "serve", "--model", model, "--port", "0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=common.variables(), text=True) as process:
        assert process.stderr
        try:
            said = ""
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", said)):
                said = process.stderr.readline()
                if not said:
                    raise SystemExit("the server does not start: see its options and the message above")
                print(said, end="", flush=True)
            port = int(found[1])
            ask(http.client.HTTPConnection("127.0.0.1", port), "GET", "/healthz")  # waits until it is ready
            yield port
        finally:
            process.terminate()


def requests_of(bodies: Sequence[bytes], images: int, heat: bool) -> list[bytes]:
    """A form for each image, which has `images` images: this one and those that follow it."""
    forms = []
    for at in range(len(bodies)):
        some = [bodies[(at + k) % len(bodies)] for k in range(images)]
        parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="explain"\r\n\r\n{heat}\r\n'.encode()]
        for image in some:
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
            parts.append(head.encode() + image + b"\r\n")
        forms.append(b"".join(parts) + f"--{BOUNDARY}--\r\n".encode())
    return forms


def measure(port: int, clients: int, forms: Sequence[bytes], seconds: float) -> Count:
    """What `clients` threads see that send `forms` in turn for so many seconds."""
    right: dict[int, object] = {}
    count, lock = Count(), threading.Lock()
    started = time.perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        turn = number
        while time.perf_counter() < started + seconds:
            which = turn % len(forms)
            turn += 1
            before = time.perf_counter()
            try:
                status, content = ask(connection, "POST", "/predict", forms[which])
            except (OSError, http.client.HTTPException):
                connection.close()
                status, content = 0, b""
            latency = time.perf_counter() - before
            if status == 503:
                time.sleep(guard.RETRY_SECONDS)
            with lock:
                if status == 200:
                    said = [row.get("probabilities") for row in json.loads(content)["results"]]
                    count.lost += right.setdefault(which, said) != said
                    count.latencies.append(latency)
                elif status == 503:
                    count.busy += 1
                else:
                    count.lost += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count.seconds = time.perf_counter() - started
    return count


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and content of an answer."""
    connection.request(method, path, body, HEADERS if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


if __name__ == "__main__":
    main()
