"""Predictions as lines: for a terminal, as CSV or as JSON. Each line is written whole, as soon as it is known."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from darkroom.evaluation import conformal
from darkroom.inference.predict import Prediction

SHOWN = 5  # classes in the summary
Picture = Callable[[str], str]  # from the path of an image to the name of the picture that explains its prediction


def ranked(prediction: Prediction, top: int) -> list[int]:
    """The indices of the `top` classes, the most probable one first. Equal ones keep their order."""
    return [int(index) for index in np.argsort(-prediction.probabilities, kind="stable")[:top]]


def as_table(predictions: Iterable[Prediction], classes: Sequence[str], top: int) -> Iterator[str]:
    """Columns of fixed width, since the lines appear one by one. The path stands last, because it may be long."""
    width = max(map(len, classes))
    for one in predictions:
        best = "  ".join(f"{classes[k]:<{width}} {one.probabilities[k]:.3f}" for k in ranked(one, top))
        yield f"{best}  {one.answer:<7}  {one.path}" if not one.reason else f"{one.path} {one.reason}"


def as_csv(
    predictions: Iterable[Prediction], classes: Sequence[str], top: int, every: bool, picture: Picture | None = None
) -> Iterator[str]:
    """A header, then a row per file. `every`: a column with the probability of each class."""
    best = [name for rank in range(2, top + 1) for name in (f"class_{rank}", f"probability_{rank}")]
    every_class = [f"probability_of_{label}" for label in classes] if every else []
    explained = ["explanation"] if picture else []
    header = ["path", "class", "probability", "answer", "set", "reason", *explained, *best, *every_class]
    yield _row(header)
    for one in predictions:
        if one.reason:
            yield _row([one.path, "", "", "", "", one.reason, *[""] * (len(header) - 6)])
            continue
        first, *others = ranked(one, top)
        in_set = " | ".join(classes[k] for k in np.flatnonzero(one.in_set).tolist())
        pairs = [cell for k in others for cell in (classes[k], one.probabilities[k])]
        pairs += [""] * (len(best) - len(pairs))  # there may be fewer classes than `top`
        probabilities = one.probabilities.tolist() if every else []
        name = [picture(one.path)] if picture else []
        first_cells = [one.path, classes[first], one.probabilities[first], one.answer, in_set, ""]
        yield _row([*first_cells, *name, *pairs, *probabilities])


def _row(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # which makes it quote these two characters in a path
    return text.getvalue().removesuffix("\r\n")


def as_json(
    predictions: Iterable[Prediction], classes: Sequence[str], top: int, every: bool, picture: Picture | None = None
) -> Iterator[str]:
    """A JSON object per file. `every`: with the probability of each class."""
    for one in predictions:
        if one.reason:
            yield json.dumps({"path": one.path, "reason": one.reason}, ensure_ascii=False)
            continue
        best = ranked(one, top)
        row: dict[str, object] = {
            "path": one.path,
            "class": classes[best[0]],
            "probability": float(one.probabilities[best[0]]),
            "answer": one.answer,
            "set": [classes[k] for k in np.flatnonzero(one.in_set).tolist()],
        }
        if picture:
            row["explanation"] = picture(one.path)
        if top > 1:
            row["top"] = {classes[k]: float(one.probabilities[k]) for k in best}
        if every:
            row["probabilities"] = dict(zip(classes, one.probabilities.tolist(), strict=True))
        yield json.dumps(row, ensure_ascii=False)


@dataclass
class Tally:
    """Counts what passes."""

    answers: Counter[str] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    failed: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)

    def pass_over(self, path: str) -> None:
        """Count a file that is not looked at, by its suffix."""
        self.passed_over[Path(path).suffix.lower() or "no suffix"] += 1

    def watch(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """The same predictions, counted."""
        for one in predictions:
            if one.reason:
                self.failed += 1
            else:
                self.answers[one.answer] += 1
                self.classes[int(one.probabilities.argmax())] += 1
            yield one

    def summary(self, title: str, classes: Sequence[str], val_labels: np.ndarray) -> str:
        """One line on how the batch compares with val, so that a drift is seen. `title`: that of the model."""
        total = sum(self.answers.values())
        if not total:
            return f"no image could be read; files that could not be read: {self.failed}{self._not_looked_at()}"
        shares = ", ".join(f"{self.answers[answer] / total:.0%} {answer}" for answer in ("sure", "unsure", "unknown"))
        mix = np.bincount(val_labels, minlength=len(classes)) / max(1, len(val_labels))
        there = sorted(self.classes, key=lambda k: (-self.classes[k], k))[:SHOWN]
        named = ", ".join(f"{classes[k]} {self.classes[k] / total:.0%} (val {mix[k]:.0%})" for k in there)
        rest = f", and {len(self.classes) - SHOWN} other classes" if len(self.classes) > SHOWN else ""
        failed = f"; files that could not be read: {self.failed}" if self.failed else ""
        return (
            f"images: {total}; {title} model: {shares} (of images like those of training, about {conformal.UNKNOWN_RATE:.0%}); "
            f"{named}{rest}{failed}{self._not_looked_at()}"
        )

    def _not_looked_at(self) -> str:
        if not self.passed_over:
            return ""
        kinds = ", ".join(f"{suffix} {count}" for suffix, count in self.passed_over.most_common(SHOWN))
        return f"; files that are not named as images, and were passed over: {self.passed_over.total()} ({kinds})"
