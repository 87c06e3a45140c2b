"""Train IRNet's boundary branch on pseudo-masks; it predicts which neighbouring pixels belong together."""
