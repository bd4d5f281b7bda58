"""The comparison of two revisions: `darkroom compare`, `data-diff` and `pr-report`."""
