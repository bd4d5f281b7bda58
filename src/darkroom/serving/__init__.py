"""`darkroom serve`: a model behind HTTP, with a page."""
