"""Weakly supervised segmentation: image-level labels in, pixel masks and a segmentation network out."""

__version__ = "0.1.0"
