"""Losses that make a classifier right for the right reasons: its evidence leaves M- and, if asked for, moves into M+.

All forms are the share of an image's evidence inside M- (and 1 minus the share inside M+), so that a weight means the same
for each of them: of the absolute class map as it is pooled (``cam``), of its positive part (``energy``, Rao et al. 2023, equation 4), or of
the squared gradient of the input (``input_gradient``, Ross et al. 2017, equation 1, whose sum is divided by that over the
whole image: it cannot be lowered by smaller gradients).
"""

import torch
from torch import Tensor

from wsseg.models.classifier import Pooling, pooled, pooling_weights
from wsseg.saliency.marked import Form, evidence_of, gradient_evidence, marked_regions, share_inside


def marks_loss(
    form: Form,
    images: Tensor,
    maps: Tensor,
    pooling: Pooling,
    marks: Tensor,
    present: Tensor,
    negative: float,
    positive: float,
) -> Tensor:
    """Return the scalar loss, a mean over the images of the batch that have such a mark; 0 if none has one.

    Args:
        form: the evidence, see above.
        images: (N, 3, H, W); ``input_gradient`` requires their gradient.
        maps: class maps of `images`, (N, K, h, w).
        pooling: how the maps become logits.
        marks: (N, H, W) int64: class ids, 255 where nothing was said.
        present: (N, K), 1 for the classes of each image.
        negative: weight of the share of the evidence inside M-.
        positive: weight of the share of the evidence outside M+.
    """
    if form == "input_gradient":
        minus, plus = marked_regions(marks, present, (images.shape[2], images.shape[3]))
        # gradients are not told apart by class: M- is what belongs to no class
        minus, plus = minus.amin(1, keepdim=True), plus.amax(1, keepdim=True)
        evidence = gradient_evidence(pooled(maps, pooling), images)
    else:
        minus, plus = marked_regions(marks, present, (maps.shape[2], maps.shape[3]))
        evidence = evidence_of(maps, pooling_weights(maps, pooling), form)
    inside, denied = share_inside(evidence, minus)
    loss = negative * _mean_of(inside, denied)
    if positive > 0:
        there, claimed = share_inside(evidence, plus)
        loss = loss + positive * _mean_of(1 - there, claimed)
    return loss


def ramp(epoch: int, epochs: int, share: float) -> float:
    """Return the factor of the loss in an epoch: it rises evenly over the first `share` of the epochs, then it is 1.

    With the whole weight from the first step, a network that relies on what is denied loses all of its evidence at once and
    does not recover.
    """
    return min(1.0, (epoch + 0.5) / (share * epochs)) if share > 0 else 1.0


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    weights = chosen.to(values.dtype)
    return torch.sum(values * weights) / weights.sum().clamp_min(1)
