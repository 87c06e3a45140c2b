"""The dense CRF, pure array code."""
