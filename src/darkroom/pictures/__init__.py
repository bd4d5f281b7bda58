"""Charts and contact sheets. Numbers in, PNG files out."""
