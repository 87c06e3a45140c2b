"""Stress tests, one module per part; each returns its metrics and its failures. Run them with ``make stress``."""
