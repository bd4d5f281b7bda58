"""What a model says about files, as a stream: memory does not grow with their number."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from darkroom.data import archives, samples, survey
from darkroom.data.images import SUFFIXES, resized
from darkroom.data.layout import is_system_file
from darkroom.evaluation import conformal
from darkroom.evaluation.conformal import Limits
from darkroom.inference.predictor import Predictor
from darkroom.system.errors import UserError
from darkroom.system.parallel import in_threads

BATCH = 16  # files that are decoded, and images that are computed, at a time
MEGAPIXELS = 100.0  # larger images are not decoded: a file of kilobytes can decode to gigabytes


# Is told the paths, the pixels uint8 (N, R, R, 3) and the classes int64 (N,) of images that were classified.
Witness = Callable[[Sequence[str], np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Prediction:
    """What a model says about a file.

    Attributes:
        path: As it was given or found.
        reason: Why the file cannot be read; "" if it can. All below is then empty.
        probabilities: float64 (K,).
        in_set: bool (K,), the classes that the image may have at the chosen error rate.
        unknown: Whether it is unlike the training images.
    """

    path: str
    reason: str
    probabilities: np.ndarray
    in_set: np.ndarray
    unknown: bool

    @property
    def answer(self) -> str:
        """ "unknown", "sure" (the set has the most probable class alone), "unsure", or "" if the file cannot be read."""
        if self.reason:
            return ""
        if self.unknown:
            return "unknown"
        return "sure" if conformal.sure(self.in_set[None], self.probabilities[None])[0] else "unsure"


def files_of(paths: Iterable[str], pass_over: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """The files that are meant: those named, those in named folders and tar archives, and "-" for the lines of standard input.

    Args:
        paths: Files, folders, or "-".
        pass_over: Is told of each file of a folder whose suffix is not that of an image. Hidden files and system files are
            passed over without it.

    Raises:
        UserError: A folder or an archive cannot be listed.
    """
    for path in paths:
        if path == "-":
            lines = (line.rstrip("\r\n") for line in sys.stdin)
            yield from files_of((line for line in lines if line.strip() not in ("", "-")), pass_over)
        elif Path(path).is_dir():
            yield from _in_folder(path, pass_over)
        elif path.endswith(archives.SUFFIX) and Path(path).is_file():
            yield from _in_archive(path, pass_over)
        else:
            yield path


def _in_folder(top: str, pass_over: Callable[[str], None]) -> Iterator[str]:
    """The image files in a folder and its folders: one folder is listed at a time."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be listed ({error.strerror}): let this user read it")

    for folder, folders, names in os.walk(top, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_system_file(name))
        for name in sorted(name for name in names if not is_system_file(name)):
            path = Path(folder) / name
            if path.suffix.lower() in SUFFIXES:
                yield str(path)
            elif path.suffix == archives.SUFFIX and path.is_file():
                yield from _in_archive(str(path), pass_over)
            else:
                pass_over(str(path))


def _in_archive(archive: str, pass_over: Callable[[str], None]) -> Iterator[str]:
    """The image files in a tar archive."""
    try:
        inside = samples.names(archive)
    except OSError as error:
        raise UserError(f"{archive} cannot be read ({error}): unpack it, and name the folder") from None
    for name in sorted(inside):
        if Path(name).suffix.lower() in SUFFIXES:
            yield f"{archive}/{name}"
        else:
            pass_over(f"{archive}/{name}")


def predict(
    predictor: Predictor, paths: Iterable[str], limits: Limits, witness: Witness | None = None
) -> Iterator[Prediction]:
    """The prediction for each of `paths`, in order. Files are decoded while the network computes."""
    for chunk in chunks_of(paths, predictor.resolution):
        yield from judged(predictor, chunk, limits, witness)


def judged(
    predictor: Predictor,
    contents: Sequence[tuple[str, np.ndarray | str]],
    limits: Limits,
    witness: Witness | None = None,
) -> Iterator[Prediction]:
    """The prediction for each path, in order, from its pixels uint8 (R, R, 3) or from the reason why it cannot be read."""
    nothing = np.zeros(0)
    for at in range(0, len(contents), BATCH):
        chunk = contents[at : at + BATCH]
        known = [path for path, content in chunk if isinstance(content, np.ndarray)]
        images = [content for _, content in chunk if isinstance(content, np.ndarray)]
        rows: Iterator[tuple[np.ndarray, float]] = iter(())
        if images:
            pixels = np.stack(images)
            probabilities, unlikeness = predictor.answer(pixels)
            if witness:
                witness(known, pixels, probabilities.argmax(1))
            rows = zip(probabilities, unlikeness, strict=True)
        for path, content in chunk:
            if isinstance(content, str):
                yield Prediction(path, content, nothing, nothing, False)
            else:
                row, unlike = next(rows)
                yield Prediction(path, "", row, limits.sets(row), bool(unlike > limits.unlikeness))


def chunks_of(paths: Iterable[str], resolution: int) -> Iterator[list[tuple[str, np.ndarray | str]]]:
    """The files in order, `BATCH` at a time: each path with the pixels of the network's input, or why it cannot be read.

    Pixels are uint8 (resolution, resolution, 3).
    """
    stream = iter(paths)
    chunks = iter(lambda: list(islice(stream, BATCH)), [])
    yield from in_threads(partial(_decoded, resolution), chunks)


def _decoded(resolution: int, paths: Sequence[str]) -> list[tuple[str, np.ndarray | str]]:
    return [(path, pixels_of(path, resolution)) for path in paths]


def pixels_of(path: str, resolution: int, megapixels: float = MEGAPIXELS) -> np.ndarray | str:
    """The image of a file as a model sees it, uint8 (resolution, resolution, 3), or the reason why it cannot be read."""
    if not archives.exists(path):
        return "is no file" if Path(path).exists() else "does not exist"
    try:
        image = survey.decoded(Path(path), megapixels)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return image if isinstance(image, str) else resized(image, resolution)
