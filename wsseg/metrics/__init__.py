"""Confusion matrices, boundaries, classification metrics."""
