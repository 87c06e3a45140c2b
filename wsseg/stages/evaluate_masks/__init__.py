"""Evaluate masks or seeds against true masks."""
