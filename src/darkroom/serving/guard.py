"""What stands before the application: whom it serves, how many at a time, and what a page may do with its answers."""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_SECONDS = 60  # that a request may take to arrive
TAIL = 1000  # bytes of a body in which its last boundary is sought
RETRY_SECONDS = 1  # after which a refused request may be sent again
HEADERS = {
    # A page loads nothing from other hosts, runs no script of its own text, and is shown in no frame.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass
class Guard:
    """An ASGI application around another one.

    Attributes:
        app: The one that answers what is let in.
        names: By which this server may be called, besides addresses.
        uploads: Uploads that are let in at a time.
        under_way: Uploads that were let in and are not answered.
    """

    app: ASGIApp
    names: Collection[str]
    uploads: int
    under_way: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(scope)
        if refused:
            await refused(scope, receive, send_with_headers)
        elif scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send_with_headers)
        else:
            self.under_way += 1
            try:
                content_type = Headers(scope=scope).get("content-type", "")
                await self.app(scope, whole(receive, content_type), send_with_headers)
            finally:
                self.under_way -= 1

    def _refused(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that is not let in; None if it is."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not is_own(host, self.names):
            return _sentence(
                421, "this server is not called so: use its address (`darkroom serve --allow-host NAME` adds a name)"
            )
        if scope["method"] in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return _sentence(403, "a page of another site cannot send images to this server")
        if self.under_way >= self.uploads:
            return _sentence(503, "too many requests at a time: send it again", {"retry-after": str(RETRY_SECONDS)})
        if scope["path"] == "/predict" and not headers.get("content-type", "").startswith("multipart/form-data"):
            return _sentence(415, "send files as multipart/form-data, in the field 'files': curl -F files=@photo.jpg")
        return None


def is_own(host: str, names: Collection[str]) -> bool:
    """Whether the header Host names this server.

    A page of another site can make its own name point to this server, and then read the answers (DNS rebinding). It cannot do so
    with an address. So addresses are let in, and names only if they are known.
    """
    try:
        parts = urlsplit(f"//{host}")
        name = (parts.hostname or "").rstrip(".")
        _ = parts.port  # raises if it is no number
    except ValueError:
        return False
    if parts.netloc != host or parts.username is not None:
        return False
    return name in names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def names_of(host: str, allowed: Collection[str]) -> frozenset[str]:
    """The names of a server that listens at `host`: this one, that of this machine, and those that the user allows."""
    return frozenset(name.lower().rstrip(".") for name in ("localhost", host, socket.gethostname(), *allowed))


def _sentence(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": text}, status, headers)


def whole(receive: Receive, content_type: str) -> Receive:
    """`receive`, but it raises if the body takes too long or is cut off.

    A client that sends nothing would keep its place for ever. Of a form that is cut off, the last file would be missing in the
    answer without a word.

    Raises:
        HTTPException: From what is returned: 408 or 400.
    """
    deadline = time.monotonic() + UPLOAD_SECONDS
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    end = b"--" + boundary + b"--" if boundary else b""
    tail, arrived = b"", False

    async def receive_whole() -> Message:
        nonlocal tail, arrived
        try:
            left = None if arrived else max(0.0, deadline - time.monotonic())
            message = await asyncio.wait_for(receive(), left)
        except TimeoutError:
            raise HTTPException(408, f"the request took longer than {UPLOAD_SECONDS} seconds to arrive") from None
        if arrived or message["type"] != "http.request":
            return message
        tail = (tail + message.get("body", b"")[-TAIL:])[-TAIL:]
        arrived = not message.get("more_body", False)
        if arrived and tail and end not in tail:
            raise HTTPException(400, "the form is cut off: it lacks its last boundary")
        return message

    return receive_whole
