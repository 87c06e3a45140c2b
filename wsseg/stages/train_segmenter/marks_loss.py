"""Weights of the pixels of which a person said something."""

import torch
from torch import Tensor

from wsseg.labels import IGNORE_INDEX


def with_said(weights: Tensor, marks: Tensor | None, weight: float) -> Tensor:
    """Return the weights (N, H, W) of pixels, with `weight` where something was said; unchanged without marks.

    Args:
        weights: (N, H, W) float32.
        marks: (N, H, W) int64, 255 where nothing was said; None without marks.
        weight: weight of a said pixel; an inferred pixel has at most 1.
    """
    if marks is None:
        return weights
    return torch.where(marks == IGNORE_INDEX, weights, torch.full_like(weights, weight))
