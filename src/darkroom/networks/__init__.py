"""Architectures, pretrained weights, checkpoints and the forward pass."""
