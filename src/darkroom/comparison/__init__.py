"""`darkroom compare`, `data-diff` and `pr-report`: two revisions side by side."""
