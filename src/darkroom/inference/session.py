"""One run of `darkroom predict`: from the command line to lines."""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from darkroom.evaluation import conformal
from darkroom.inference import output, predictor
from darkroom.inference.predict import Prediction, Witness, files_of, predict
from darkroom.inference.settings import Format
from darkroom.system.errors import UserError


@dataclass(frozen=True)
class Choices:
    """How to answer: the options of `darkroom predict`."""

    output: Path | None
    format: Format | None
    top: int
    probabilities: bool
    error_rate: float
    explain: Path | None = None


def run(model: Path, paths: Sequence[str], choices: Choices) -> int:
    """Classify the files with the model in the file `model`, and write the lines.

    Returns:
        The exit code: 1 if some file could not be read.

    Raises:
        UserError: The model cannot be used, there is no image, or the output cannot be written.
    """
    asked = predictor.load(model)
    witness, picture = pictures(asked, choices.explain)
    limits = limits_at(asked, choices.error_rate)
    tally = output.Tally()
    with _target(choices.output) as stream:
        # On a terminal the lines themselves show the progress.
        bar = tqdm(
            predict(asked, files_of(paths, tally.pass_over), limits, witness),
            unit="image",
            leave=False,
            disable=stream.isatty() or None,
        )
        predictions = tally.watch(bar)
        try:
            for line in _lines(predictions, asked.classes, choices, stream, picture):
                print(line, file=stream, flush=True)
        except BrokenPipeError:  # such as `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            print("darkroom predict: interrupted; the lines above are whole", file=sys.stderr)
            return 130
        if not (tally.answers or tally.failed):
            raise UserError(f"there is no image in {', '.join(paths)}: name files or folders of images")
    print(tally.summary(asked.title, asked.classes, asked.known[1]), file=sys.stderr)
    return int(tally.failed > 0)


def limits_at(asked: predictor.Predictor, error_rate: float) -> conformal.Limits:
    """What decides whether the model answers. Says on standard error if val has too few images for this error rate."""
    limits = conformal.limits_of(asked.known, len(asked.classes), error_rate)
    if not all(map(math.isfinite, limits.scores)):
        count = len(asked.known[0])
        print(
            f"val has too few images ({count}) to promise an error rate of {error_rate:g}: every answer is unsure or unknown; "
            f"ask for --error-rate {math.ceil(1000 / (count + 1)) / 1000:g} or more",
            file=sys.stderr,
        )
    return limits


@contextmanager
def _target(path: Path | None) -> Iterator[TextIO]:
    """Where the lines go: to a new file, or to standard output.

    After a mistake of the user's the file is removed, since it lacks lines.

    Raises:
        UserError: The file exists already, for it may be an image or a model, or cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("x", encoding="utf-8", errors="surrogateescape", newline="\n")
    except FileExistsError:
        raise UserError(f"--output {path}: there is such a file already: name another one, or remove it") from None
    except OSError as error:
        raise UserError(f"--output {path}: cannot be written ({error.strerror}): name another file") from None
    with stream:
        try:
            yield stream
        except UserError:
            path.unlink()
            raise


def pictures(asked: predictor.Predictor, folder: Path | None) -> tuple[Witness | None, output.Picture | None]:
    """What writes the pictures into `folder`, and what names them.

    Raises:
        UserError: This model cannot be explained, or the folder cannot be made.
    """
    if folder is None:
        return None, None
    if asked.explainer is None:
        raise UserError("an exported model cannot be explained: name the checkpoint (.pth) that it was made from")
    explain = asked.explainer()
    from darkroom.inference import overlays

    return overlays.writer(explain, folder), overlays.name_of


def _lines(
    predictions: Iterable[Prediction],
    classes: Sequence[str],
    choices: Choices,
    stream: TextIO,
    picture: output.Picture | None,
) -> Iterator[str]:
    """The lines in the format that is chosen."""
    match choices.format or ("table" if stream.isatty() else "csv"):
        case "csv":
            return output.as_csv(predictions, classes, choices.top, choices.probabilities, picture)
        case "json":
            return output.as_json(predictions, classes, choices.top, choices.probabilities, picture)
        case _:
            return output.as_table(predictions, classes, len(classes) if choices.probabilities else choices.top)
