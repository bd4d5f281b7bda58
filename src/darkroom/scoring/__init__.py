"""`darkroom score`: a model on labelled images of another site, and operating points."""
