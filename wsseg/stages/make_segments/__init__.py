"""Divide the images into segments that follow their edges: superpixels, or masks of SAM, SAM 2 and SAM 3."""
