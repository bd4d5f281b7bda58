"""Using a model: `darkroom predict`."""
