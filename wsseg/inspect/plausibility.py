"""Plausibility of saliency maps: agreement with held-out masks, which does not show what the network uses.

A *map* here is (N, *S) float32 at the masks' size, not negative; *inside* is (N, *S) bool, True at pixels of the class;
*counted* is (N, *S) bool, False at pixels with mask value 255.
"""

import torch
from torch import Tensor

from wsseg.errors import StageError

_BINS = 256


def _check(maps: Tensor, inside: Tensor, counted: Tensor) -> None:
    if maps.shape != inside.shape or maps.shape != counted.shape or maps.ndim < 2:
        raise StageError(
            f"plausibility: maps {tuple(maps.shape)}, masks {tuple(inside.shape)}, counted {tuple(counted.shape)}; "
            "expected: (N, *S), all of one shape"
        )
    if not torch.isfinite(maps).all() or (maps < 0).any():
        raise StageError("plausibility: the maps contain negative values, NaN or infinity; expected: 0 or more")


def pointing_game(maps: Tensor, inside: Tensor, counted: Tensor, tolerance: int = 0) -> Tensor:
    """Return (N,) float32: 1 if the highest value is inside, 0 if it is outside, NaN if no pixel is counted.

    (Zhang et al. 2018, "Top-down neural attention by excitation backprop", section 4.1.) Of equal highest values the first
    one in row-major order is used.

    Args:
        tolerance: distance from the mask, in pixels along each axis, that still counts as inside (15 in the paper).
    """
    _check(maps, inside, counted)
    near = inside & counted
    if tolerance:
        pool = {1: torch.nn.functional.max_pool1d, 2: torch.nn.functional.max_pool2d}[maps.ndim - 1]
        near = pool(near[:, None].float(), 2 * tolerance + 1, stride=1, padding=tolerance)[:, 0] > 0
    peak = maps.masked_fill(~counted, -1).flatten(1).argmax(1, keepdim=True)
    hit = near.flatten(1).gather(1, peak)[:, 0].float()
    return hit.masked_fill(~counted.flatten(1).any(1), torch.nan)


def energy_inside(maps: Tensor, inside: Tensor, counted: Tensor) -> Tensor:
    """Return (N,) the fraction of a map's sum that is inside (Wang et al. 2020, Score-CAM, section 4.3); NaN if the sum is 0."""
    _check(maps, inside, counted)
    total = (maps * counted).flatten(1).sum(1)
    return (maps * (inside & counted)).flatten(1).sum(1) / total.masked_fill(total == 0, torch.nan)


def histograms(maps: Tensor, inside: Tensor, counted: Tensor) -> Tensor:
    """Return (N, 2, 256) int64: numbers of pixels outside (0) and inside (1) the mask per value, in 256 steps of the maximum.

    `best_iou` and `pixel_average_precision` are computed from them. Histograms may be summed over images.
    """
    _check(maps, inside, counted)
    flat = maps.flatten(1)
    scaled = flat / flat.amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    bins = (scaled * (_BINS - 1)).round().long().clamp_(0, _BINS - 1)
    index = bins + _BINS * inside.flatten(1)
    counts = torch.zeros(len(maps), 2 * _BINS, dtype=torch.long, device=maps.device)
    counts.scatter_add_(1, index, counted.flatten(1).long())
    return counts.view(-1, 2, _BINS)


def best_iou(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N,) the highest IoU of {map >= threshold} with the mask, and (N,) that threshold in (0, 1], of `histograms`.

    NaN if the mask is empty. The threshold is chosen with the true masks, so this is a diagnostic. Both are float64 on the CPU (MPS has none).
    """
    above = counts.cpu().flip(2).cumsum(2).flip(2)[..., 1:].double()  # (N, 2, thresholds 1..255)
    size = counts.cpu()[:, 1].sum(1, keepdim=True).double()
    iou = above[:, 1] / (size + above[:, 0])
    best, place = iou.max(1)
    return best.masked_fill(size[:, 0] == 0, torch.nan), (place + 1).double() / (_BINS - 1)


def pixel_average_precision(counts: Tensor) -> Tensor:
    """Return (N,) the area under precision over recall of pixels (Choe et al. 2020, PxAP, equation 4); NaN for an empty mask.

    The paper computes it over all images of a class: sum their `histograms` first.
    """
    above = counts.cpu().flip(2).cumsum(2).double()  # from the highest value down
    recall = above[:, 1] / above[:, 1, -1:]
    precision = above[:, 1] / above.sum(1).clamp_min(1)
    gained = torch.diff(recall, dim=1, prepend=torch.zeros_like(recall[:, :1]))
    return (precision * gained).sum(1)
