"""Using a model: `darkroom predict`, `export`, `serve`."""
