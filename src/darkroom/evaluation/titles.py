"""What metrics and models are called in tables and charts."""

TITLES = {
    "accuracy": "accuracy",
    "merged_accuracy": "accuracy, classes merged",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "ece": "calibration error",
}
MODELS = {"scratch": "from scratch", "finetune": "fine-tuned"}
