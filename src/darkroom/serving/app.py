"""The application of `darkroom serve`: what it answers under which path."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any

import fastapi_offline
import numpy as np
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from darkroom.evaluation.conformal import Limits
from darkroom.inference.output import ranked
from darkroom.inference.predict import Prediction, judged
from darkroom.inference.predictor import Explain, Predictor
from darkroom.serving import decoders, pages

LONGEST = 200  # characters of a file's name in an answer


@dataclass(frozen=True)
class Service:
    """What answers.

    Attributes:
        predictor: The model.
        limits: What decides whether it answers.
        explain: Where in an image the reason lies; None if this model cannot be explained.
        megabytes: Of a request.
        megapixels: Of an image.
        files: In a request.
    """

    predictor: Predictor
    limits: Limits
    explain: Explain | None
    megabytes: float
    megapixels: float
    files: int


class About(BaseModel):
    """The model, and what can be sent to it."""

    title: str
    classes: list[str]
    explains: bool = Field(description="Whether it can show where in an image the reason lies.")
    max_megabytes: float = Field(description="Of a request.")
    max_megapixels: float = Field(description="Of an image.")
    max_files: int = Field(description="In a request.")


class Result(BaseModel):
    """What the model says about a file: a reason why it cannot be read, or all else."""

    name: str
    reason: str | None = None
    label: Annotated[str | None, Field(serialization_alias="class")] = None
    probability: float | None = None
    answer: Annotated[str | None, Field(description="sure, unsure, or unknown: unlike the training images")] = None
    in_set: Annotated[
        list[str] | None,
        Field(serialization_alias="set", description="The classes that it may have at the error rate."),
    ] = None
    probabilities: Annotated[
        dict[str, float] | None, Field(description="Of each class, the most probable one first.")
    ] = None
    heat: Annotated[
        str | None,
        Field(description="If asked for: a PNG as a data URL, with colour where the reason for the class lies."),
    ] = None


class Answer(BaseModel):
    """One result for each file, in order."""

    results: list[Result]


class Refusal(BaseModel):
    """Why there is no answer."""

    detail: str


REFUSALS = {
    400: "The body is no form, or has too many files.",
    403: "A page of another site sent it.",
    408: "It took too long to arrive.",
    413: "It is larger than this server takes.",
    415: "It is not multipart/form-data.",
    421: "The server is not called so.",
    422: "It has no file, or none that can be read: `results` has the reasons.",
    503: "Too many requests at a time; see Retry-After.",
}


def build(service: Service) -> FastAPI:
    """The application. The model computes in one thread, one request at a time: it uses all cores."""
    model = ThreadPoolExecutor(1)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with decoders.running(service.predictor.resolution, service.megapixels) as app.state.decoders:
            yield
        model.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="Darkroom",
        description=f"The {service.predictor.title} model.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads from another host
        redoc_url=None,
        max_body_size=int(service.megabytes * 1e6),
        form_limits={"max_files": service.files, "max_fields": 8, "max_part_size": 1000},
    )
    _add_pages(app)

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, __: RequestValidationError) -> JSONResponse:
        return JSONResponse(
            {"detail": "send one file or more in the field 'files', and true or false in 'explain'"}, 422
        )

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get("/model")
    async def model_of_this_server() -> About:
        """The model, and what can be sent to it."""
        asked = service.predictor
        return About(
            title=asked.title,
            classes=asked.classes,
            explains=service.explain is not None,
            max_megabytes=service.megabytes,
            max_megapixels=service.megapixels,
            max_files=service.files,
        )

    @app.post(
        "/predict",
        response_model=Answer,
        response_model_exclude_none=True,
        responses={status: {"model": Refusal, "description": text} for status, text in REFUSALS.items()},
    )
    async def predict(
        files: Annotated[list[UploadFile], File(description="Images.")],
        explain: Annotated[bool, Form(description="Also show where the reason lies, if the model can.")] = False,
    ) -> Any:
        """Classify images."""
        contents = await asyncio.gather(*(_decoded(file, app.state.decoders) for file in files))
        work = asyncio.get_running_loop().run_in_executor(model, _results, service, contents, explain)
        answer = Answer(results=await work)
        if any(not result.reason for result in answer.results):
            return answer
        text = "; ".join(f"{result.name} {result.reason}" for result in answer.results[:3])
        content = {"detail": text, **answer.model_dump(by_alias=True, exclude_none=True)}
        return JSONResponse(content, 422)

    return app


async def _decoded(file: UploadFile, decoding: decoders.Decoders) -> tuple[str, np.ndarray | str]:
    """The name of an uploaded file, and its pixels or the reason why it cannot be read."""
    return (file.filename or "")[:LONGEST], await decoding.pixels(await file.read())


def _results(service: Service, contents: Sequence[tuple[str, np.ndarray | str]], explain: bool) -> list[Result]:
    """What the model says about each file."""
    heat: list[str] = []

    def look(_: Sequence[str], pixels: np.ndarray, classes: np.ndarray) -> None:
        from darkroom.inference import overlays

        if service.explain:
            pictures = map(overlays.overlay, pixels, service.explain(pixels, classes))
            heat.extend(f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures)

    witness = look if explain and service.explain else None
    predictions = list(judged(service.predictor, contents, service.limits, witness))
    pictures = iter(heat)
    return [
        _result(one, service.predictor.classes, None if one.reason else next(pictures, None)) for one in predictions
    ]


def _result(one: Prediction, classes: Sequence[str], heat: str | None) -> Result:
    if one.reason:
        return Result(name=one.path, reason=one.reason)
    order = ranked(one, len(classes))
    return Result(
        name=one.path,
        label=classes[order[0]],
        probability=float(one.probabilities[order[0]]),
        answer=one.answer,
        in_set=[classes[k] for k in np.flatnonzero(one.in_set).tolist()],
        probabilities={classes[k]: float(one.probabilities[k]) for k in order},
        heat=heat,
    )


def _add_pages(app: FastAPI) -> None:
    """The page, and that of the interface."""
    swagger = resources.files(fastapi_offline) / "static"
    contents = {
        "/": pages.PAGE / "index.html",
        "/page.js": pages.PAGE / "page.js",
        "/base.css": pages.BASE,
        "/page.css": pages.PAGE / "page.css",
        "/docs": pages.PAGE / "docs.html",
        "/docs.js": pages.PAGE / "docs.js",
        "/swagger-ui.js": swagger / "swagger-ui-bundle.js",
        "/swagger-ui.css": swagger / "swagger-ui.css",
    }
    pages.add(app, contents)
