"""The metric that the training of the classifier counts besides its loss."""

import pytest
import torch

from wsseg.stages.train_classifier.training import decisions, mean_f1


def test_f1_of_a_classifiers_decisions():
    logits = torch.tensor([[1.0, -1.0, -1.0], [2.0, 3.0, -1.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    counts = decisions(logits, labels)
    assert counts.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 0]]  # true positives, false positives, false negatives
    assert mean_f1(counts) == pytest.approx(2 / 3)  # 2/3 for both; the third class is neither predicted nor present
    assert mean_f1(torch.zeros(3, 3)) == 0.0
