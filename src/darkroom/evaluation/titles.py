"""The metrics that tables show, in this order, and their titles."""

METRICS = {
    "accuracy": "accuracy",
    "merged_accuracy": "accuracy, classes merged",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "ece": "calibration error",
}
