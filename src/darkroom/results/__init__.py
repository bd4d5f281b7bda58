"""What a revision, an experiment or the work tree has committed: its figures, predictions and images."""
