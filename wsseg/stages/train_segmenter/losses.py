"""Losses for noisy masks, as pure functions of logits, masks and image-level labels."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.labels import IGNORE_INDEX

Loss = Literal["cross_entropy", "symmetric", "bootstrapped"]
_LOG_OF_ZERO = -4.0  # replaces log 0 in the reverse cross-entropy, as in the paper
_REVERSED = 0.5  # weight of the reverse cross-entropy; the cross-entropy has the weight 1
_TRUST = 0.8  # weight of a mask's label; the network's prediction has the rest


def per_pixel(logits: Tensor, masks: Tensor, loss: Loss) -> Tensor:
    """Return the loss of each pixel, (N, H, W) float32; 0 if the mask is 255.

    Args:
        logits: (N, K + 1, H, W).
        masks: (N, H, W) int64.
        loss: ``cross_entropy``; ``symmetric``, which adds the bounded reverse cross-entropy (Wang et al. 2019, equation 7); or
            ``bootstrapped``, whose target is 0.8 of the label and 0.2 of the network's prediction (Reed et al. 2015,
            equation 7, soft).
    """
    logits = logits.float()
    entropy = F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX, reduction="none")
    if loss == "cross_entropy":
        return entropy
    decided = (masks != IGNORE_INDEX).float()
    if loss == "symmetric":
        reversed_entropy = -_LOG_OF_ZERO * (1 - probability_of(logits.softmax(1), masks))
        return (entropy + _REVERSED * reversed_entropy) * decided
    logs = logits.log_softmax(1)
    prediction_entropy = -(logs.exp().detach() * logs).sum(1)
    return (_TRUST * entropy + (1 - _TRUST) * prediction_entropy) * decided


def probability_of(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return the probability (N, H, W) of each pixel's label, given (N, K + 1, H, W); for 255, that of the background."""
    labels = masks.masked_fill(masks == IGNORE_INDEX, 0)
    return probabilities.gather(1, labels[:, None])[:, 0]


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of losses (N, H, W); 0 if all weights are 0."""
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)


def dice_loss(logits: Tensor, masks: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over classes, without the background, of 1 minus the Dice coefficient of the batch, a scalar in [0, 1].

    Milletari et al. 2016 (V-Net, section 3), without squares, over all pixels of the batch (as in nnU-Net). A class counts the
    same however small its objects are.

    Args:
        logits: (N, K + 1, H, W).
        masks: (N, H, W) int64.
        weights: (N, H, W) weight of each pixel; pixels of 255 are ignored.
    """
    weights = weights * (masks != IGNORE_INDEX)
    probabilities = logits.float().softmax(1)
    hits = probability_of(probabilities, masks) * weights
    labels = masks.masked_fill(masks == IGNORE_INDEX, 0).flatten()
    count = logits.shape[1]
    both = hits.new_zeros(count).index_add_(0, labels, hits.flatten())
    true = hits.new_zeros(count).index_add_(0, labels, weights.flatten())
    predicted = (probabilities * weights[:, None]).sum(dim=(0, 2, 3))
    return (1 - (2 * both + 1) / (true + predicted + 1))[1:].mean()


def absent_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Return the mean of -log(1 - p) over all pixels, including undecided ones; p is the probability of all absent classes.

    Args:
        logits: (N, K + 1, H, W).
        present: (N, K), 1 for the classes of each image.
    """
    possible = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)[:, :, None, None] > 0
    logits = logits.float()
    among = logits.masked_fill(~possible, -torch.inf).logsumexp(1)
    return (logits.logsumexp(1) - among).mean()
