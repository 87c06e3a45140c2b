"""Train a segmentation network on pseudo-masks (or on true masks: the upper bound)."""
