"""Compute seeds: class activation maps of the training images."""
