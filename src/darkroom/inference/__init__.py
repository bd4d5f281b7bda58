"""Using a model: `darkroom predict`, `score`."""
