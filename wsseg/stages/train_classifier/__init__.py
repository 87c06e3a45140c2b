"""Train a multi-label classifier on images with image-level labels."""
