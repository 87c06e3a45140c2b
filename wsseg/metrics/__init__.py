"""Metrics: confusion matrices, boundary IoU, classification."""
