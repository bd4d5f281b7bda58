"""Results made again: `darkroom verify` checks that they rebuild, `merge` makes those of a merge, `taste` runs all on a slice.

`darkroom deps` writes what each stage depends on, and the colours of DVC's charts.
"""
