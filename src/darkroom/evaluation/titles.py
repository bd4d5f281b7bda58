"""What tables show: the metrics in their order with their titles, how a figure is written, and which classes are marked."""

from collections.abc import Mapping

from darkroom.evaluation.per_class import FEW as FEW

METRICS = {
    "accuracy": "accuracy",
    "merged_accuracy": "accuracy, classes merged",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "ece": "calibration error",
}


def figure(of: Mapping[str, float] | None) -> str:
    """A value with its interval, if it has one, as in 0.884 (0.857 to 0.907)."""
    if of is None or of["value"] != of["value"]:
        return "not defined"
    return f"{of['value']:.3f}" + (f" ({of['low']:.3f} to {of['high']:.3f})" if "low" in of else "")
