"""The results in a few lines, from metrics/."""

from typing import Any

from darkroom.evaluation.titles import MODELS, TITLES
from darkroom.system.files import read_json


def table(seconds: float | None = None) -> str:
    """Both models' test figures with their 95 % intervals, which is better, and where to look.

    Raises:
        UserError: There are no results yet.
    """
    scores = read_json("metrics/evaluate.json")
    lines = [
        f"{'on ' + str(scores['count']) + ' test images':26}" + "".join(f"{title:>24}" for title in MODELS.values())
    ]
    for key, title in TITLES.items():
        if all(key in scores[name] for name in MODELS):
            lines.append(f"{title:26}" + "".join(f"{interval(scores[name][key]):>24}" for name in MODELS))
    verdict = scores["comparison"]
    better = MODELS.get(verdict["better"])
    lines.append(
        f"\nMcNemar's exact test: p = {verdict['mcnemar_p']:.2g}, "
        + (f"the model {better} is better." if better else "no evidence that one is better.")
    )
    lines.append("Pictures: plots/*.png; all plots in one page: `dvc plots show`; figures: `dvc metrics show`.")
    if seconds is not None:
        lines.append(f"It took {seconds // 60:.0f} min {seconds % 60:.0f} s.")
    return "\n".join(lines)


def interval(figure: dict[str, Any]) -> str:
    """A figure with its interval: 0.884 (0.857-0.907)."""
    if "low" not in figure:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f}-{figure['high']:.3f})"
