"""Propagate seeds over learned affinities up to the boundaries of objects."""
