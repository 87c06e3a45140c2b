"""Estimate the IoU of masks without true masks."""
