"""HTML pages that need no other file, host or server: their layout, charts and thumbnails."""
