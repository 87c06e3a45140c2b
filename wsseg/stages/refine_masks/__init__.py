"""Turn seeds into pseudo-masks: background score, dense CRF, thresholds."""
