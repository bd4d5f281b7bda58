"""Many runs of one project with changed seeds, folds or params: `darkroom seeds`, `crossval` and `tune`."""
