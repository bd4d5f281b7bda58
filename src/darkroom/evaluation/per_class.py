"""plots/per_class.csv: what each model does with the test images of each class. `metrics.per_class` computes it."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from darkroom.system.errors import UserError

PATH = "plots/per_class.csv"
FEW = 10  # test images of a class; classes with fewer are marked


class OfClass(NamedTuple):
    """What a model does with a class. A figure is None where it is not defined.

    Attributes:
        test_images: Number of its test images.
        recall: The share of them that is recognised. None without test images.
        low, high: The 95 % interval of the recall.
        precision: The share of the images called so that are of the class. None if no image is called so.
        f1: The harmonic mean of precision and recall. None without test images.
        few: "few" if there are too few test images to judge the class by, else "".
    """

    test_images: int
    recall: float | None
    low: float | None
    high: float | None
    precision: float | None
    f1: float | None
    few: str


Classes = dict[str, OfClass]  # by the name of the class
HEADER = ("model", "class", *OfClass._fields)


def recall(of: OfClass) -> dict[str, float]:
    """The recall of a class with test images, and its interval, as `titles.figure` writes them."""
    found = {"value": of.recall, "low": of.low, "high": of.high}
    return {name: value for name, value in found.items() if value is not None}


def rows(by_model: Mapping[str, Classes]) -> list[tuple[Any, ...]]:
    """The rows of the table under `HEADER`, in the order of the models and, for each, the classes."""
    return [(model, label, *of) for model, classes in by_model.items() for label, of in classes.items()]


def read(data: bytes) -> dict[str, Classes]:
    """Model -> class -> what the content of plots/per_class.csv says.

    Raises:
        ValueError, KeyError, TypeError: It is damaged.
    """
    found: dict[str, Classes] = defaultdict(dict)
    for row in csv.DictReader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")):
        recall, low, high, precision, f1 = (
            float(row[name]) if row[name] else None for name in ("recall", "low", "high", "precision", "f1")
        )
        found[row["model"]][row["class"]] = OfClass(
            int(row["test_images"]), recall, low, high, precision, f1, row["few"]
        )
    return dict(found)


def load() -> dict[str, Classes]:
    """The same of the work tree.

    Raises:
        UserError: There is no such file, as before the first `dvc repro`, or it is damaged.
    """
    try:
        return read(Path(PATH).read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{PATH} is missing or damaged: run `dvc repro`") from None


def of_revision(data: bytes | None, scores: Mapping[str, Any]) -> dict[str, Classes]:
    """The same for any revision. In an older one, metrics/evaluate.json had these figures, and there is no such file.

    Args:
        data: The content of plots/per_class.csv. None if there is no such file.
        scores: The content of metrics/evaluate.json.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: One of them is damaged.
    """
    if data is not None:
        return read(data)
    return {
        model: {
            label: OfClass(int(of["support"]), of["recall"], None, None, of["precision"], of["f1"], "")
            for label, of in entry["per_class"].items()
        }
        for model, entry in scores.items()
        if isinstance(entry, Mapping) and "per_class" in entry
    }
