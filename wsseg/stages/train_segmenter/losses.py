"""Losses on masks that may be wrong, as pure functions of logits, masks and image-level labels."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.labels import IGNORE_INDEX

Loss = Literal["cross_entropy", "symmetric", "bootstrapped"]
_LOG_OF_ZERO = -4.0  # what stands for log 0 in the reversed cross-entropy, as in the paper
_REVERSED = 0.5  # weight of the reversed half, beside 1 for the cross-entropy
_TRUST = 0.8  # of a mask's label, beside the network's own opinion


def per_pixel(logits: Tensor, masks: Tensor, loss: Loss) -> Tensor:
    """Return (N, H, W) float32, the loss of each pixel; 0 where the mask is 255.

    Args:
        logits: (N, K + 1, H, W).
        masks: (N, H, W) int64.
        loss: ``cross_entropy``; ``symmetric``: with the reversed cross-entropy, in which a label that the network denies
            counts for little more than one it doubts (Wang et al. 2019, equation 7); ``bootstrapped``: towards 0.8 of the
            label and 0.2 of the network's own opinion (Reed et al. 2015, equation 7, soft).
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
    own = -(logs.exp().detach() * logs).sum(1)
    return (_TRUST * entropy + (1 - _TRUST) * own) * decided


def probability_of(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return (N, H, W): what (N, K + 1, H, W) probabilities give each pixel's label; that of the background where it is 255."""
    labels = masks.masked_fill(masks == IGNORE_INDEX, 0)
    return probabilities.gather(1, labels[:, None])[:, 0]


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of (N, H, W); zero where no pixel weighs anything."""
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)


def absent_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Return the mean over all pixels, undecided ones too, of -log(1 - p), p the probability of classes not in the image.

    Args:
        logits: (N, K + 1, H, W).
        present: (N, K), 1 for the classes of each image.
    """
    possible = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)[:, :, None, None] > 0
    logits = logits.float()
    among = logits.masked_fill(~possible, -torch.inf).logsumexp(1)
    return (logits.logsumexp(1) - among).mean()
