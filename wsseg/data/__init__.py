"""Images with image-level labels, held-out masks, transforms and the demo data set."""
