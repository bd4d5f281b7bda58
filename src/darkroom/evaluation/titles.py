"""The metrics that tables show, in this order, and their titles; which classes tables mark."""

FEW = 10  # test images of a class; classes with fewer are marked

METRICS = {
    "accuracy": "accuracy",
    "merged_accuracy": "accuracy, classes merged",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "ece": "calibration error",
}
