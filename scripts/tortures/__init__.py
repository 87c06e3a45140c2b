"""What `scripts/torture.py` does to wsseg, one module a stress; each returns its figures and the failures it found."""
