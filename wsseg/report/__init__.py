"""What a run found, for people who would rather look: one page that opens from disk, or the same served over a large run."""
