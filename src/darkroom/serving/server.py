"""`darkroom serve`: a model behind HTTP, for people and programs."""

import contextlib
import ipaddress
import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from darkroom.inference import predictor, session
from darkroom.inference.predictor import Explain, Predictor
from darkroom.system.errors import UserError

CONNECTIONS = 256  # at a time; more are answered 503
GRACE = 5  # seconds for the requests that are under way when the server is asked to end


@dataclass(frozen=True)
class Choices:
    """How to serve: the options of `darkroom serve`."""

    host: str
    port: int
    error_rate: float
    megabytes: float
    megapixels: float
    files: int
    requests: int
    allowed: list[str]


def run(model: Path, choices: Choices) -> int:
    """Serve the model in the file `model` until Ctrl-C.

    Returns:
        The exit code.

    Raises:
        UserError: A package is missing, the model cannot be used, or there is no such address or port.
    """
    try:
        import fastapi_offline  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn

        from darkroom.serving import app, guard
    except ImportError as error:
        raise UserError(f"darkroom serve needs {error.name}: `pip install -r requirements/extras/serve.txt`") from None
    with _listening(choices.host, choices.port) as listener:
        asked = predictor.load(model)
        limits = session.limits_at(asked, choices.error_rate)
        explain = _explain(asked)
        service = app.Service(asked, limits, explain, choices.megabytes, choices.megapixels, choices.files)
        names = guard.names_of(choices.host, choices.allowed)
        guarded = guard.Guard(app.build(service), names, choices.requests)
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of processes that are ended on purpose
        config = uvicorn.Config(
            guarded,
            http="h11",  # the same on every machine, whatever else is installed
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
        )
        _greet(asked.title, choices.host, listener)
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended
            uvicorn.Server(config).run([listener])
        print("darkroom serve: ended", file=sys.stderr)
    return 0


def _explain(asked: Predictor) -> Explain | None:
    """What shows where the reasons lie; None, with a sentence on standard error, if this model or installation cannot."""
    if asked.explainer is None:
        print("darkroom serve: an exported model has no heat maps", file=sys.stderr)
        return None
    try:
        return asked.explainer()
    except UserError as error:
        print(f"darkroom serve: no heat maps, for {error}", file=sys.stderr)
        return None


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Who connects before the model is loaded waits.

    Raises:
        UserError: There is no such address, or the port cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UserError(
            f"--host {host}: there is no such address: name one of this machine, such as 127.0.0.1"
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would share the port with another server
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on port {port} of {host} ({error.strerror}): choose another --port or --host"
        ) from None
    return listener


def _greet(title: str, host: str, listener: socket.socket) -> None:
    address, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"darkroom serve: the {title} model at http://{shown}:{port}/ (Ctrl-C ends it)", file=sys.stderr)
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        print(
            "darkroom serve: whoever reaches this machine can use it: there is no password and no encryption",
            file=sys.stderr,
        )
    sys.stderr.flush()
