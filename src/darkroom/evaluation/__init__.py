"""Metrics, their intervals and their tests. Arrays in, numbers out."""
