"""The training loop and what it needs: augmentation, optimizers, resuming."""
