"""Losses of the segmenter, by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from wsseg.stages.train_segmenter.losses import absent_loss, dice_loss, per_pixel, weighted_mean

LOGITS = torch.tensor([[0.0, 2.0], [1.0, -1.0], [0.5, 0.0]]).reshape(1, 3, 1, 2)  # three classes, two pixels


def test_cross_entropy_ignores_undecided_pixels():
    masks = torch.tensor([[[1, 255]]])
    losses = per_pixel(LOGITS, masks, "cross_entropy")
    expected = math.log(math.exp(0) + math.exp(1) + math.exp(0.5)) - 1.0
    assert losses.flatten().tolist() == pytest.approx([expected, 0.0])
    assert float(weighted_mean(losses, (masks != 255).float())) == pytest.approx(expected)


def test_dice_by_hand():
    logits = torch.tensor([[0.0, 2.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.0, 3.0]]).reshape(1, 3, 1, 3)
    masks, weights = torch.tensor([[[1, 0, 255]]]), torch.tensor([[[1.0, 0.5, 1.0]]])
    p = logits.softmax(1)[0, :, 0]
    first = 1 - (2 * p[1, 0] + 1) / (1 + p[1, 0] + 0.5 * p[1, 1] + 1)
    second = 1 - 1 / (p[2, 0] + 0.5 * p[2, 1] + 1)  # no pixel of this class
    assert float(dice_loss(logits, masks, weights)) == pytest.approx(float(first + second) / 2)


def test_dice_is_zero_for_a_perfect_prediction_and_counts_small_classes_alike():
    masks = torch.zeros(1, 8, 8, dtype=torch.int64)
    masks[0, 0, 0], masks[0, 4:] = 1, 2
    perfect = 50 * F.one_hot(masks, 3).permute(0, 3, 1, 2).float()
    weights = torch.ones(1, 8, 8)
    assert float(dice_loss(perfect, masks, weights)) == pytest.approx(0, abs=1e-6)
    without_small = perfect.clone()
    without_small[0, :, 0, 0] = torch.tensor([50.0, 0, 0])
    assert float(dice_loss(without_small, masks, weights)) == pytest.approx(
        0.25, abs=1e-3
    )  # of the smallest possible region


def test_symmetric_by_hand():
    masks = torch.tensor([[[1, 0]]])
    probabilities = LOGITS.softmax(1)[0, :, 0]
    entropy = [-math.log(probabilities[1, 0]), -math.log(probabilities[0, 1])]
    reversed_entropy = [4 * (1 - float(probabilities[1, 0])), 4 * (1 - float(probabilities[0, 1]))]
    expected = [e + 0.5 * r for e, r in zip(entropy, reversed_entropy, strict=True)]
    assert per_pixel(LOGITS, masks, "symmetric").flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_bootstrapped_by_hand():
    logs = LOGITS.log_softmax(1)[0, :, 0, 0]
    expected = 0.8 * -logs[2] + 0.2 * -(logs.exp() * logs).sum()
    assert per_pixel(LOGITS, torch.tensor([[[2, 255]]]), "bootstrapped").flatten().tolist() == pytest.approx(
        [float(expected), 0.0]
    )


@pytest.mark.parametrize("loss", ["symmetric", "bootstrapped"])
def test_wrong_labels_have_smaller_gradients_than_in_cross_entropy(loss):
    def gradient(name: str, label: int) -> float:
        logits = torch.tensor([4.0, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
        per_pixel(logits, torch.tensor([[[label]]]), name).sum().backward()
        return float(logits.grad.abs().sum())

    # the network predicts class 0, the label is 1
    assert gradient(loss, 1) < 1.1 * gradient("cross_entropy", 1)
    if loss == "bootstrapped":
        assert gradient(loss, 1) < 0.85 * gradient("cross_entropy", 1)


@pytest.mark.parametrize("loss", ["cross_entropy", "symmetric", "bootstrapped"])
def test_masks_without_decided_pixels_have_a_loss_of_zero(loss):
    logits = LOGITS.clone().requires_grad_()
    masks = torch.full((1, 1, 2), 255)
    total = weighted_mean(per_pixel(logits, masks, loss), (masks != 255).float())
    total.backward()
    assert float(total.detach()) == 0
    assert logits.grad.abs().sum() == 0


def test_absent_classes_by_hand():
    probabilities = LOGITS.softmax(1)
    expected = float(-torch.log(1 - probabilities[0, 2]).mean())
    assert float(absent_loss(LOGITS, torch.tensor([[1.0, 0.0]]))) == pytest.approx(expected, rel=1e-5)
    assert float(absent_loss(LOGITS, torch.ones(1, 2))) == pytest.approx(0, abs=1e-6)
