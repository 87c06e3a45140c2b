"""Measure a classifier on images that it was not trained on."""
