"""Using a model: `darkroom predict`, `export`."""
