"""Inspection of trained classifiers: explanations of photographs, and audits of saliency maps."""
