"""Config keys that version 0.2 renamed. A config with an old key is refused, and the error gives the new name."""

RENAMED = {
    "affinity.color": "affinity.color_jitter",
    "affinity_labels.adaptive": "affinity_labels.pamr_iterations",
    "classifier.balance": "classifier.balance_loss",
    "classifier.color": "classifier.color_jitter",
    "classifier.erase_share": "classifier.erase_fraction",
    "classifier.head_factor": "classifier.head_lr_multiplier",
    "predictions.suppress": "predictions.min_class_probability",
    "pseudo_masks.adaptive": "pseudo_masks.pamr_iterations",
    "rounds": "relabeling",
    "rounds.certainty": "relabeling.min_confidence",
    "segmenter.absent": "segmenter.absent_class_weight",
    "segmenter.color": "segmenter.color_jitter",
    "segmenter.head_factor": "segmenter.head_lr_multiplier",
    "segmenter.teacher": "segmenter.ema_decay",
    "segmenter.unchanged": "segmenter.stop_below_change",
    "relabeling.certainty": "relabeling.min_confidence",
    "walk.frame": "walk.boundary_prior",
    "walked_masks.adaptive": "walked_masks.pamr_iterations",
}
