"""The metric that the training of the segmenter counts besides its loss."""

import torch

from wsseg.stages.train_segmenter.training import agreement


def test_a_segmenters_pixels_are_counted_if_they_are_sampled_and_decided():
    masks = torch.zeros(1, 8, 8, dtype=torch.long)
    masks[0, 2, 2], masks[0, 2, 6], masks[0, 6, 2] = 1, 255, 2
    masks[0, 0, 0] = 2  # between the sampled rows
    predictions = torch.zeros(1, 8, 8, dtype=torch.long)
    predictions[0, 2, 2], predictions[0, 6, 2] = 1, 1
    logits = torch.nn.functional.one_hot(predictions, 3).movedim(-1, 1).float()
    assert agreement(logits, masks).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
