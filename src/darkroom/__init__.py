"""Darkroom: a folder of images in, two trained classifiers and an honest comparison of them out."""
