"""Saliency maps of networks and the operations that turn them into seeds, as functions of tensors."""
