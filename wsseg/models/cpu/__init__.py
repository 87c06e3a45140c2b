"""Optimisations for CPUs: memory allocation, gradients of depthwise convolutions, folded batch normalisations."""
