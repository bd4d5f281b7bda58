"""`darkroom labels`: which labels look wrong, by what a pretrained network sees."""
