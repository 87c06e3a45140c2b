"""Measure a classifier on images that it did not learn from."""
