"""What tables show: the metrics in their order with their titles, and how a figure and a duration are written."""

from collections.abc import Mapping

METRICS = {
    "accuracy": "accuracy",
    "merged_accuracy": "accuracy, classes merged",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "ece": "calibration error",
}


def duration(seconds: float) -> str:
    """A duration as people say it, as in 45 s or 12 min."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def figure(of: Mapping[str, float] | None) -> str:
    """A value with its interval, if it has one, as in 0.884 (0.857 to 0.907)."""
    if of is None or of["value"] != of["value"]:
        return "not defined"
    return f"{of['value']:.3f}" + (f" ({of['low']:.3f} to {of['high']:.3f})" if "low" in of else "")
