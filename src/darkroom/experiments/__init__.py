"""`darkroom seeds` and `tune`: many runs of the same project."""
