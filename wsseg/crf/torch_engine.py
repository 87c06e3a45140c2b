"""The engine ``torch``: the same lattice and mean field as tensor operations, for a GPU and several images at once.

The pixels of all images are concatenated, and each image has its own range of keys, so that sizes may differ. Sums on a
GPU use atomic additions, so that their last digits differ from run to run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsseg.crf.lattice import KeySpace, key_space, scales
from wsseg.crf.settings import CrfSettings
from wsseg.types import Image, Scores

_FEW = 1e-20


@dataclass(frozen=True)
class _Kernel:
    """A filter over N pixels, see `wsseg.crf.lattice.Lattice` and `wsseg.crf.kernel.Kernel`."""

    corners: Tensor  # (N, d + 1) int64
    neighbours: Tensor  # (d + 1, 2, M + 1) int64
    weights: Tensor  # (N, d + 1) float32

    def filter(self, values: Tensor) -> Tensor:
        """Return the filtered values (N, C) of values (N, C)."""
        return _filtered(values, self.corners, self.neighbours, self.weights)


class TorchMeanField:
    """Mean field of several images at once; lattices are built once and used for any number of unaries.

    Args:
        images: (H, W, 3) uint8 each, of any sizes.
        settings: settings for all images.
        device: device of the computation; None for the accelerator if there is one, else the CPU.

    Raises:
        StageError: the keys of so many images exceed 63 bits.
    """

    def __init__(self, images: Sequence[Image], settings: CrfSettings, device: torch.device | None = None) -> None:
        if device is None:
            accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            device = accelerator or torch.device("cpu")
        self.settings, self.device = settings, device
        place, colour = (settings.bilateral_sxy,) * 2, (settings.bilateral_srgb,) * 3
        self.kernels = [_kernel(images, widths, device) for widths in ((settings.gaussian_sxy,) * 2, place + colour)]

    def infer(self, unaries: Sequence[NDArray[np.float32]], iterations: int) -> list[Scores]:
        """Return the marginals (C, H, W) float32 for unaries (C, H, W), one per image; C may differ between images.

        This is algorithm 1 of Krähenbühl & Koltun (2011) with the Potts model.
        """
        energy = _joined(unaries).to(self.device)
        compats = (self.settings.gaussian_compat, self.settings.bilateral_compat)
        marginals = torch.softmax(-energy, dim=1)
        for _ in range(iterations):
            total = energy.clone()
            for kernel, compat in zip(self.kernels, compats, strict=True):
                total -= compat * kernel.filter(marginals)
            marginals = torch.softmax(-total, dim=1)
        ends = np.cumsum([unary[0].size for unary in unaries])[:-1].tolist()
        parts = np.split(marginals.T.cpu().numpy(), ends, axis=1)
        return [
            np.ascontiguousarray(part[: len(unary)]).reshape(unary.shape)
            for part, unary in zip(parts, unaries, strict=True)
        ]


def _joined(unaries: Sequence[NDArray[np.float32]]) -> Tensor:
    """Return (N, C) float32, the energies of all pixels; labels that an image does not have get energy 1e4."""
    most = max(len(unary) for unary in unaries)
    return torch.cat([
        torch.nn.functional.pad(torch.from_numpy(unary.reshape(len(unary), -1).T.copy()), (0, most - len(unary)), value=1e4)
        for unary in unaries
    ])  # fmt: skip


def _kernel(images: Sequence[Image], widths: tuple[float, ...], device: torch.device) -> _Kernel:
    """Return the normalised filter over all pixels of all images."""
    largest = max(i.shape[0] for i in images), max(i.shape[1] for i in images)
    space = key_space(largest, widths, len(images))
    features = torch.cat([_features(image, widths) for image in images]).to(device)  # (N, d)
    owners = torch.cat([torch.full((i.shape[0] * i.shape[1],), k) for k, i in enumerate(images)]).to(device)
    keys, weights = _located(features, space)
    keys += owners[:, None] * (space.room * (len(widths) + 1))
    unique, places = torch.unique(keys, return_inverse=True)
    corners = places + 1  # 0 is the corner for missing neighbours
    neighbours = _neighbours(unique, space, len(widths) + 1)
    weights *= (1 + 2.0 ** -len(widths)) ** -0.5
    ones = torch.ones(len(features), 1, device=device)
    received = _filtered(ones, corners, neighbours, weights)
    return _Kernel(corners, neighbours, weights * (received + _FEW) ** -0.5)


def _features(image: Image, widths: tuple[float, ...]) -> Tensor:
    """Return (H W, d) float32: x, y and, if there are five widths, the colours, divided by the widths."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    planes = [columns, rows, *image.astype(np.float32).transpose(2, 0, 1)][: len(widths)]
    return torch.from_numpy(np.stack([p.ravel() / np.float32(w) for p, w in zip(planes, widths, strict=True)], axis=1))


def _located(features: Tensor, space: KeySpace) -> tuple[Tensor, Tensor]:
    """Return the keys and the barycentric coordinates, both (N, d + 1), of the corners of each pixel's simplex."""
    size = features.shape[1] + 1
    scaled = features * torch.from_numpy(scales(size - 1)).to(features)
    later = scaled.flip(1).cumsum(1).flip(1)  # sums of feature j and the later ones
    steps = torch.arange(1, size, device=features.device)
    raised = torch.cat([later[:, :1], torch.cat([later[:, 1:], torch.zeros_like(later[:, :1])], 1) - steps * scaled], 1)
    rounded = torch.floor(raised / size + 0.5)
    quotients = rounded.long()
    excess = quotients.sum(1, keepdim=True)
    rest = raised - rounded * size
    # rank = number of values that are larger, or equal and earlier: the order of a stable descending sort
    ranks = torch.argsort(torch.argsort(rest, dim=1, descending=True, stable=True), dim=1) + excess
    wrapped = (ranks < 0).long() - (ranks >= size).long()
    ranks, quotients, rest = ranks + wrapped * size, quotients + wrapped, rest - wrapped * size
    axes, origin = (torch.from_numpy(a).to(features.device) for a in (space.axes, space.origin))
    key = ((quotients - origin) * axes * size).sum(1)
    by_rank = axes[torch.argsort(ranks, dim=1)]  # (N, d + 1): the key step of the axis of each rank
    steps_back = torch.cat([torch.zeros_like(key)[:, None], by_rank.flip(1)[:, : size - 1].cumsum(1)], 1)
    keys = key[:, None] + torch.arange(size, device=features.device) - size * steps_back
    ordered = torch.zeros_like(rest).scatter_(1, ranks, rest / size)
    weights = ordered.flip(1) - torch.cat([torch.zeros_like(ordered[:, :1]), ordered.flip(1)[:, : size - 1]], 1)
    weights[:, 0] += 1 - ordered[:, 0]
    return keys, weights


def _neighbours(unique: Tensor, space: KeySpace, size: int) -> Tensor:
    """Return (d + 1, 2, M + 1): the numbers of the next and the previous corner along each axis, 0 for none."""
    axes = torch.from_numpy(space.axes).to(unique.device)
    forth = unique % size < size - 1
    neighbours = torch.zeros(size, 2, len(unique) + 1, dtype=torch.long, device=unique.device)
    numbers = torch.arange(1, len(unique) + 1, device=unique.device)
    for axis in range(size):
        behind_key = torch.where(
            forth, unique + 1 - size * axes[axis], unique - (size - 1) + size * (axes.sum() - axes[axis])
        )
        place = torch.searchsorted(unique, behind_key).clamp(max=len(unique) - 1)
        behind = torch.where(unique[place] == behind_key, place + 1, 0)
        neighbours[axis, 0, 1:] = behind
        neighbours[axis, 1].scatter_(0, behind, numbers)
        neighbours[axis, 1, 0] = 0
    return neighbours


def _filtered(values: Tensor, corners: Tensor, neighbours: Tensor, weights: Tensor) -> Tensor:
    """Splat, blur and slice values (N, C) with one set of weights."""
    sums = values.new_zeros(neighbours.shape[2], values.shape[1])
    for r in range(corners.shape[1]):
        sums.index_add_(0, corners[:, r], values * weights[:, r, None])
    for behind, before in neighbours:
        sums = sums + 0.5 * (sums[behind] + sums[before])
        sums[0] = 0
    result = torch.zeros_like(values)
    for r in range(corners.shape[1]):
        result += weights[:, r, None] * sums[corners[:, r]]
    return result
