"""Many runs of one project with changed seeds or params: `darkroom seeds` and `tune`."""
