"""Segment images with the trained network."""
