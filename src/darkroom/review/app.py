"""The application of `darkroom review`: the page, the images by number, and the decisions that it takes."""

import io
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from darkroom.data.images import open_rgb
from darkroom.review import decisions, places
from darkroom.review.decisions import Decision
from darkroom.review.queue import Image, Queue
from darkroom.serving import pages
from darkroom.system import files
from darkroom.system.errors import UserError

PAGE = Path(__file__).parent / "page"
TOKEN = "x-darkroom-token"  # the header of a request that decides
SMALL = 320  # pixels of the longer side of a thumbnail
LOSSLESS = 4e6  # pixels up to which an image is sent as PNG; above, PNG takes seconds
QUALITY = 95  # of JPEG
BODY = 10_000  # bytes of a decision at most
CHANGED = "this file has changed or is gone since the review began: start `darkroom review` again"


class Choice(BaseModel):
    """What a person decides about the item `number`."""

    number: int
    decision: Literal["keep", "relabel", "remove", "unsure"]
    label: str = ""
    note: str = Field("", max_length=4 * decisions.LONGEST)


def build(queue: Queue, token: str) -> FastAPI:
    """The application. Whoever asks for images or decides must know `token`."""

    def allowed(request: Request) -> None:
        given = request.headers.get(TOKEN) or request.query_params.get("token") or ""
        if request.method == "POST":
            given = request.headers.get(TOKEN, "")
        if not secrets.compare_digest(given.encode(), token.encode()):
            raise HTTPException(403, "use the whole address that `darkroom review` printed: it holds a token")

    app = FastAPI(title="Darkroom review", docs_url=None, redoc_url=None, openapi_url=None, max_body_size=BODY)
    shut = [Depends(allowed)]
    app.add_api_route("/", pages.sender(PAGE / "index.html"), dependencies=shut)
    pages.add(
        app, {"/base.css": pages.BASE, "/review.css": PAGE / "review.css", "/review.js": PAGE / "review.js"}
    )  # the same for everybody

    @app.exception_handler(UserError)
    async def refuse(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    @app.get("/queue", dependencies=shut)
    def whole_queue() -> dict[str, Any]:
        """All items with their decisions."""
        return as_json(queue)

    @app.get("/image/{number}", dependencies=shut)
    def image(number: int, small: bool = False) -> Response:
        """An image of the queue, decoded and encoded anew."""
        return Response(*encoded(_at(queue.images, number), SMALL if small else None))

    @app.post("/decision", dependencies=shut)
    def decide(choice: Choice) -> dict[str, str]:
        """Write a decision to data/review.csv."""
        item = _at(queue.items, choice.number)
        decision = decision_of(choice, queue.images[item.image], queue.classes)
        decisions.save(decision)
        return decision._asdict()

    return app


Number = Annotated[int, "the index of an item or an image"]


def _at(listed: list[Any], number: Number) -> Any:
    if not 0 <= number < len(listed):
        raise HTTPException(404, "there is no such image")
    return listed[number]


def as_json(queue: Queue) -> dict[str, Any]:
    """The queue as the page reads it."""
    decided = {(one.path, one.sha256): one._asdict() for one in decisions.read()}
    items = [
        {
            "image": _facts(item.image, queue.images),
            "suggested": item.suggested,
            "reasons": item.reasons,
            "others": [{**_facts(number, queue.images), "what": what} for number, what in item.others.items()],
            "decision": decided.get(queue.images[item.image][:2]),
        }
        for item in queue.items
    ]
    return {"classes": queue.classes, "notes": queue.notes, "items": items}


def _facts(number: int, images: list[Image]) -> dict[str, Any]:
    image = images[number]
    return {"number": number, "path": image.path, "label": image.label, "side": image.side}


def encoded(image: Image, side: int | None) -> tuple[bytes, int, None, str]:
    """An image of data/raw as PNG or JPEG, shrunk to `side` pixels if that is given: content, status, headers and media type.

    Raises:
        HTTPException: 410, the file holds other bytes than the queue is about, or cannot be decoded.
    """
    content = places.content_of(image.path)
    if content is None or files.sha256(content) != image.sha256:
        raise HTTPException(410, CHANGED)
    try:
        picture = open_rgb(io.BytesIO(content))
    except (OSError, SyntaxError, ValueError):
        raise HTTPException(410, "this file cannot be decoded") from None
    if side:
        picture.thumbnail((side, side))
    stream = io.BytesIO()
    if picture.width * picture.height <= LOSSLESS:
        picture.save(stream, "PNG", compress_level=1)
        return stream.getvalue(), 200, None, "image/png"
    picture.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue(), 200, None, "image/jpeg"


def decision_of(choice: Choice, image: Image, classes: list[str]) -> Decision:
    """The row of a choice.

    Raises:
        HTTPException: 409, the file holds other bytes; 422, it is relabelled to its own class or to none that there is.
    """
    label = choice.label if choice.decision == "relabel" else ""
    if choice.decision == "relabel" and (label not in classes or label == image.label):
        raise HTTPException(422, "name another class of this data set")
    if places.digest_of(image.path) != image.sha256:
        raise HTTPException(409, CHANGED)
    note = decisions.one_line(choice.note)
    return Decision(image.path, image.sha256, choice.decision, label, decisions.who(), decisions.now(), note)
