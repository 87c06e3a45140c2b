"""Read class activation maps from the classifier: the seeds."""
