"""Reports: one page about a run that opens offline, or the same page served for runs with many images."""
