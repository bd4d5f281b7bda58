"""The files of a page under their paths."""

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response

PAGE = Path(__file__).parent / "page"
BASE = PAGE / "base.css"  # what the pages of all commands share
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


def add(app: FastAPI, contents: Mapping[str, Path | Traversable]) -> None:
    """Have `app` answer each path with a file. All are read now: no request names a file."""
    for path, file in contents.items():
        app.add_api_route(path, sender(file), include_in_schema=False)


def sender(file: Path | Traversable) -> Any:
    """What answers with the content of `file`."""
    content, kind = file.read_bytes(), f"{KINDS[Path(file.name).suffix]}; charset=utf-8"

    async def send() -> Response:
        return Response(content, media_type=kind)

    return send
