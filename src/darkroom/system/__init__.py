"""What every package stands on: errors, files, params, Git, DVC, processes, determinism."""
