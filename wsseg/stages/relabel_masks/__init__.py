"""Relabel the training images with the network that was trained on them: one round of self-training."""
