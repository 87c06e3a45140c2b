"""How much of a classifier's evidence lies where a person said something: in M- (not this class) and in M+ (this class)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.labels import IGNORE_INDEX

Form = Literal["cam", "energy", "input_gradient"]


def marked_regions(marks: Tensor, present: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the regions M- and M+ of each class, each (N, K, h, w) float32: the fraction of a place that is marked.

    M- of a class are the pixels said to be none of the classes and, if the image shows the class, those said to be another
    class. M+ are the pixels said to be the class.

    Args:
        marks: (N, H, W) int64: class ids, 255 where nothing was said.
        present: (N, K), 1 for the classes of each image.
        size: (h, w) of the regions.
    """
    count, classes = present.shape
    shares = torch.zeros(count, classes + 1, *size, device=marks.device)
    for value in torch.unique(marks).tolist():
        if value != IGNORE_INDEX:
            shares[:, value] = F.interpolate((marks == value).float()[:, None], size=size, mode="area")[:, 0]
    none, positive = shares[:, :1], shares[:, 1:]
    others = (positive.sum(1, keepdim=True) - positive).clamp_min(0)
    return none + others * present[:, :, None, None], positive


def evidence_of(maps: Tensor, weights: Tensor, form: Form) -> Tensor:
    """Return the evidence of class maps, (N, K, h, w), not negative.

    ``cam`` is the share of each place in the logit, whether it speaks for or against the class: with a pooling that looks at the
    highest places, a low value elsewhere is no evidence. ``energy`` is what speaks for the class (Rao et al. 2023, the energy
    pointing game).

    Args:
        maps: (N, K, h, w).
        weights: weight of each place in the logit, (N, K, h, w).
        form: ``cam`` or ``energy``.
    """
    maps = maps.float()
    return maps.relu() if form == "energy" else maps.abs() * weights


def gradient_evidence(logits: Tensor, images: Tensor) -> Tensor:
    """Return the squared gradient of sum_k log p_k + log(1 - p_k) at each pixel, (N, 1, S, S); it can be trained through.

    Ross et al. 2017, equation 1, for independent classes: what changes any prediction is evidence.

    Args:
        logits: (N, K), computed from `images`.
        images: (N, 3, S, S) that require a gradient.
    """
    logits = logits.float()
    certainty = (F.logsigmoid(logits) + F.logsigmoid(-logits)).sum()
    (gradient,) = torch.autograd.grad(certainty, images, create_graph=True)
    return gradient.float().pow(2).sum(1, keepdim=True)


def share_inside(evidence: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of each image's evidence inside its region, (N,) in [0, 1], and whether it has one, (N,) bool.

    Classes without a region do not count; those with more evidence count more.

    Args:
        evidence: (N, C, h, w), not negative.
        region: (N, C, h, w) in [0, 1].
    """
    counted = (region.amax(dim=(2, 3), keepdim=True) > 0).float()
    inside = (evidence * region).sum(dim=(1, 2, 3))
    total = (evidence * counted).sum(dim=(1, 2, 3))
    return inside / total.clamp_min(1e-6), counted.flatten(1).any(1)
