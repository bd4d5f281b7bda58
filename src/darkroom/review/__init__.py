"""`darkroom review`: a page on which people decide about images that look wrong, and what moves the files afterwards."""
