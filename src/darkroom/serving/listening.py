"""A socket that listens, and an application that answers on it until Ctrl-C. The pages of all commands are served by it."""

import contextlib
import os
import socket
from typing import Any

import uvicorn

from darkroom.system.errors import UserError

CONNECTIONS = 256  # at a time; more are answered 503
GRACE = 5  # seconds for the requests that are under way when the server is asked to end


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Who connects before there is an application waits.

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


def url_of(host: str, listener: socket.socket) -> str:
    """The address of the page, with the port that the system gave."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/"


def answer(application: Any, listener: socket.socket) -> None:
    """Answer requests by an ASGI application until Ctrl-C."""
    config = uvicorn.Config(
        application,
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
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended
        uvicorn.Server(config).run([listener])
