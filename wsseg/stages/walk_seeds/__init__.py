"""Let seeds walk over learnt affinities, up to the boundaries of things."""
