"""`darkroom verify` checks that the results rebuild; `darkroom merge` makes those of a merge; `darkroom deps` writes what each stage depends on, and chart colours."""
