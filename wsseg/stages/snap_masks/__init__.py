"""Snap pseudo-masks onto segments that follow the edges of the image."""
