"""Metrics that trainings count besides their loss, by hand."""

import pytest
import torch

from wsseg.stages.train_classifier.training import decisions, mean_f1
from wsseg.stages.train_segmenter.training import agreement


def test_f1_of_a_classifiers_decisions():
    logits = torch.tensor([[1.0, -1.0, -1.0], [2.0, 3.0, -1.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    counts = decisions(logits, labels)
    assert counts.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 0]]  # true positives, false positives, false negatives
    assert mean_f1(counts) == pytest.approx(2 / 3)  # 2/3 for both; the third class is neither predicted nor present
    assert mean_f1(torch.zeros(3, 3)) == 0.0


def test_a_segmenters_pixels_are_counted_if_they_are_sampled_and_decided():
    masks = torch.zeros(1, 8, 8, dtype=torch.long)
    masks[0, 2, 2], masks[0, 2, 6], masks[0, 6, 2] = 1, 255, 2
    masks[0, 0, 0] = 2  # between the sampled rows
    predictions = torch.zeros(1, 8, 8, dtype=torch.long)
    predictions[0, 2, 2], predictions[0, 6, 2] = 1, 1
    logits = torch.nn.functional.one_hot(predictions, 3).movedim(-1, 1).float()
    assert agreement(logits, masks).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
