"""Turn seeds into pseudo-masks: background score, pixel-adaptive refinement, dense CRF."""
