"""Images: decoding, the survey of data/raw, look-alikes and the demo data."""
