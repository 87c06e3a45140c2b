"""Compute patch embeddings of the images with DINO or CLIP, from which affinities follow."""
