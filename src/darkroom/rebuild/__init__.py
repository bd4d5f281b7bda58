"""`darkroom verify` checks that the results rebuild; `darkroom deps` writes what each stage depends on, and chart colours."""
