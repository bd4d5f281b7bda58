"""One run of `darkroom score`: from the command line to Markdown or JSON."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkroom.data.layout import SPLIT
from darkroom.inference import predictor
from darkroom.scoring import figures, operating, operating_text
from darkroom.scoring import text as texts
from darkroom.system import json_text, markdown
from darkroom.system.errors import UserError

LISTED = 20  # files that cannot be read


@dataclass(frozen=True)
class Choices:
    """What to score by: the options of `darkroom score`.

    Attributes:
        revision: The Git revision that the model is of; None: the work tree.
        as_json: Print JSON instead of Markdown.
        sensitivity, of: Choose a threshold for this sensitivity of this class, or neither.
        costs: Decide by this table of costs.
    """

    revision: str | None
    as_json: bool
    sensitivity: float | None
    of: str | None
    costs: Path | None


def run(model: Path, source: Path | None, choices: Choices) -> int:
    """Score the model in the file `model` on the labelled images of `source`, by default the project's test images; print it.

    Returns:
        The exit code: 1 if some file could not be read.

    Raises:
        UserError: The model, the labels or the costs cannot be used.
    """
    if (choices.sensitivity is None) != (choices.of is None):
        raise UserError("--sensitivity and --of belong together: say both, such as --sensitivity 0.95 --of CLASS")
    if source is None and not (SPLIT / "test").is_dir():
        raise UserError(f"say what to score: a folder or a CSV of labelled images; there is no {SPLIT / 'test'} here")
    asked = predictor.load(model)
    point = None
    if choices.sensitivity is not None and choices.of is not None:
        point = operating.threshold(asked, choices.of, choices.sensitivity)
    costs = None if choices.costs is None else operating.read_costs(choices.costs, asked.classes)
    tree, scored = figures.score(model, asked, source or SPLIT / "test", choices.revision)
    text = texts.as_markdown(tree)
    if point is not None:
        tree["sensitivity"] = operating.at_threshold(point, asked.classes, scored)
        text += "\n" + operating_text.of_sensitivity(tree["sensitivity"])
    if costs is not None:
        tree["costs"] = operating.for_costs(asked, scored, costs)
        text += "\n" + operating_text.of_costs(tree["costs"])
    if choices.as_json:
        print(json_text.dumps(tree), end="")
    else:
        markdown.show(text)
    _report(tree["failed"])
    return int(bool(tree["failed"]))


def _report(failed: Sequence[Mapping[str, str]]) -> None:
    """A line for each file that could not be read, on standard error."""
    for one in failed[:LISTED]:
        print(f"{one['path']} {one['reason']}", file=sys.stderr)
    if len(failed) > LISTED:
        print(f"and {len(failed) - LISTED} more files that cannot be read", file=sys.stderr)
