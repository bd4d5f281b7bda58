"""`darkroom serve`: a model behind HTTP, for people and programs."""

import ipaddress
import logging
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from darkroom.inference import predictor, session
from darkroom.inference.predictor import Explain, Predictor
from darkroom.system.errors import UserError


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

        from darkroom.serving import app, guard, listening
    except ImportError as error:
        raise UserError(f"darkroom serve needs {error.name}: `pip install -r requirements/extras/serve.txt`") from None
    with listening.listening(choices.host, choices.port) as listener:
        asked = predictor.load(model)
        limits = session.limits_at(asked, choices.error_rate)
        explain = _explain(asked)
        service = app.Service(asked, limits, explain, choices.megabytes, choices.megapixels, choices.files)
        names = guard.names_of(choices.host, choices.allowed)
        guarded = guard.Guard(app.build(service), names, choices.requests)
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of processes that are ended on purpose
        _greet(asked.title, listening.url_of(choices.host, listener), listener)
        listening.answer(guarded, listener)
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


def _greet(title: str, url: str, listener: socket.socket) -> None:
    print(f"darkroom serve: the {title} model at {url} (Ctrl-C ends it)", file=sys.stderr)
    address = listener.getsockname()[0]
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        print(
            "darkroom serve: whoever reaches this machine can use it: there is no password and no encryption",
            file=sys.stderr,
        )
    sys.stderr.flush()
