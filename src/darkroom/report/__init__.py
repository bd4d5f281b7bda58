"""Pages about one revision: the table of results."""
