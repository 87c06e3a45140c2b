"""List the image-level labels that are probably wrong, and near-duplicates across train and val."""
