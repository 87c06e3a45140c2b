"""Train IRNet's boundary branch on pseudo-masks: which neighbours belong together."""
