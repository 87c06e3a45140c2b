"""Pixel-adaptive mask refinement (PAMR) of scores, without training.

Araslanov & Roth 2020, "Single-Stage Semantic Segmentation from Image Labels", section 3.4 and equations 6 and 7.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.types import Image, Scores

DILATIONS = (1, 2, 4, 8, 12, 24)  # px, of 3 x 3 neighbourhoods, as in the paper's code
_SHARPNESS = 0.1  # width of the kernel, in local standard deviations


def _shifted(array: Tensor, dilations: tuple[int, ...], centre: bool) -> list[Tensor]:
    """Return views of (C, H, W) shifted to each neighbour, borders repeated; `centre` includes the pixel itself per dilation."""
    height, width = array.shape[1:]
    margin = max(dilations)
    padded = F.pad(array[None], (margin,) * 4, mode="replicate")[0]
    return [
        padded[:, margin + dy : margin + dy + height, margin + dx : margin + dx + width]
        for step in dilations
        for dy in (-step, 0, step)
        for dx in (-step, 0, step)
        if centre or dy or dx
    ]


def neighbour_weights(image: Image, dilations: tuple[int, ...] = DILATIONS) -> Tensor:
    """Return (P, H, W) float32, sum 1 over P: the similarity of each pixel to each of its neighbours.

    It is the softmax over the neighbours of the mean over RGB of -|difference| / (0.1 of the standard deviation around the pixel).
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255
    total = torch.zeros(8 * len(dilations), *pixels.shape[1:])
    for channel in pixels[:, None]:  # one channel at a time, because P planes are large
        around = torch.cat(_shifted(channel, dilations, centre=True))  # (9 D, H, W)
        deviation = around.std(dim=0)
        differences = torch.cat(_shifted(channel, dilations, centre=False)).sub_(channel).abs_()
        total -= differences.div_(1e-8 + _SHARPNESS * deviation)
    return F.softmax(total / len(pixels), dim=0)


def adapted(scores: Scores, image: Image, iterations: int = 10, dilations: tuple[int, ...] = DILATIONS) -> Scores:
    """Average scores over similar neighbouring pixels, repeatedly (equation 6).

    Args:
        scores: (C, H, W) float32, sum 1 over C.
        image: (H, W, 3) uint8.
        iterations: number of weighted averages.
        dilations: distances of the neighbours, in pixels.

    Returns:
        (C, H, W) float32, sum 1 over C.
    """
    weights = neighbour_weights(image, dilations)
    state = torch.from_numpy(scores)
    for _ in range(iterations):
        total = torch.zeros_like(state)
        for weight, neighbour in zip(weights, _shifted(state, dilations, centre=False), strict=True):
            total.addcmul_(neighbour, weight)
        state = total
    result: Scores = state.numpy()
    return result
