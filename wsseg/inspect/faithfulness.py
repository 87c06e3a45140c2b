"""Faithfulness of saliency maps: how a network's score changes when important pixels are deleted or inserted.

A *map* is (N, *S) at the images' size, of any sign or scale: only the order of its values is used, if not stated otherwise.
A *score* is a function of images, (N, C, *S) -> (N,), such as the probability of a class. All functions run in batches,
without gradients.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torch.nn import functional as F

from wsseg.errors import StageError
from wsseg.saliency.passes import images_at_once

Score = Callable[[Tensor], Tensor]
Substrate = Literal["zero", "mean", "blur"]
_BLUR = 10.0  # px, standard deviation


def _check(images: Tensor, maps: Tensor) -> None:
    if images.ndim not in (3, 4) or maps.shape != (images.shape[0], *images.shape[2:]):
        raise StageError(
            f"faithfulness: the images are {tuple(images.shape)}, the maps {tuple(maps.shape)}; expected: (N, C, *S), (N, *S)"
        )
    if not (torch.isfinite(images).all() and torch.isfinite(maps).all()):
        raise StageError("faithfulness: the images or maps contain NaN or infinity; expected: finite numbers")


def substrate(images: Tensor, kind: Substrate) -> Tensor:
    """Return the images that replace deleted pixels.

    ``zero`` is the mean colour of normalised images, ``mean`` each image's mean, ``blur`` a Gaussian blur of 10 px.
    """
    if kind == "zero":
        return torch.zeros_like(images)
    if kind == "mean":
        return images.flatten(2).mean(2).view(*images.shape[:2], *[1] * (images.ndim - 2)).expand_as(images)
    if kind == "blur":
        reach = int(3 * _BLUR)
        places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        kernel = torch.exp(-(places**2) / (2 * _BLUR**2))
        kernel = (kernel / kernel.sum()).view(1, 1, -1)
        result = images
        for axis in range(2, images.ndim):  # the kernel is separable
            lines = result.movedim(axis, -1)
            flat = lines.reshape(-1, 1, lines.shape[-1])
            padded = F.pad(flat, (reach, reach), mode="replicate")
            result = F.conv1d(padded, kernel).view(lines.shape).movedim(-1, axis)
        return result
    raise StageError(f"faithfulness: substrate: found {kind!r}; expected: {', '.join(get_args(Substrate))}")


def removal_order(maps: Tensor) -> Tensor:
    """Return (N, places) int64: the rank of each pixel, 0 for the most important; ties in row-major order."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=maps.device).expand_as(order))


@torch.no_grad()
def curve(
    score: Score,
    images: Tensor,
    maps: Tensor,
    mode: Literal["deletion", "insertion"],
    base: Substrate = "blur",
    steps: int = 50,
    batch_size: int | None = None,
) -> Tensor:
    """Return (N, steps + 1) scores while the most important pixels are deleted or inserted (Petsiuk et al. 2018, RISE).

    Args:
        score: function of images.
        images: (N, C, *S).
        maps: (N, *S).
        mode: ``deletion`` starts with the image, ``insertion`` with the substrate.
        base: the substrate.
        steps: number of equal parts of the pixels; at most the number of pixels.
        batch_size: number of images per pass; None for the fastest one.
    """
    _check(images, maps)
    places = maps[0].numel()
    if not 1 <= steps <= places:
        raise StageError(f"faithfulness: steps: found {steps}; expected: 1 to {places}, the number of pixels")
    bottom = substrate(images, base)
    ranks = removal_order(maps).view(maps.shape)
    limits = torch.linspace(0, places, steps + 1, device=images.device).round().long()
    jobs = [(n, limit) for n in range(len(images)) for limit in limits]
    scores = []
    together = batch_size or images_at_once(images)
    for start in range(0, len(jobs), together):
        part = jobs[start : start + together]
        index = torch.tensor([n for n, _ in part], device=images.device)
        limit = torch.stack([limit for _, limit in part]).view(-1, *[1] * (maps.ndim - 1))
        taken = (ranks[index] < limit)[:, None]
        inside, outside = (bottom, images) if mode == "deletion" else (images, bottom)
        scores.append(score(torch.where(taken, inside[index], outside[index])).float())
    return torch.cat(scores).view(len(images), -1)


def area_under(curves: Tensor) -> Tensor:
    """Return (N,) the area under curves (N, steps + 1) over 0..1, by the trapezoid rule."""
    return torch.trapezoid(curves, dim=1) / (curves.shape[1] - 1)


@torch.no_grad()
def average_drop_and_increase(score: Score, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N,) drop and (N,) increase of the score when images are multiplied with maps in [0, 1].

    drop = max(0, whole - masked) / whole, increase = whether masked > whole (Chattopadhay et al. 2018, section 4.1).

    Raises:
        StageError: a map leaves [0, 1].
    """
    _check(images, maps)
    if maps.min() < 0 or maps.max() > 1:
        raise StageError(f"faithfulness: maps from {maps.min():.3g} to {maps.max():.3g}; expected: 0 to 1")
    whole, masked = score(images).float(), score(images * maps[:, None]).float()
    return (whole - masked).relu() / whole.clamp_min(1e-8), (masked > whole).float()


@torch.no_grad()
def infidelity(
    score: Score, images: Tensor, evidence: Tensor, noise: float = 0.2, samples: int = 32, rng_seed: int = 0
) -> Tensor:
    """Return (N,) the infidelity of signed evidence per input value (Yeh et al. 2019, definition 2.1).

    It is the mean over Gaussian perturbations I of (I . evidence - (score(x) - score(x - I)))^2, with the optimal scale of
    the evidence (section 5). It is zero for a linear score and its gradient.

    Args:
        evidence: (N, C, *S), the shape of the images.
        noise: standard deviation of a perturbation, in the images' unit.
        samples: number of perturbations.
        rng_seed: seed of the perturbations.
    """
    if evidence.shape != images.shape:
        raise StageError(f"infidelity: the images are {tuple(images.shape)}, the evidence {tuple(evidence.shape)}")
    generator = torch.Generator().manual_seed(rng_seed)
    whole = score(images).float()
    expected_changes, actual_changes = [], []
    for _ in range(samples):
        change = noise * torch.randn(images.shape, generator=generator).to(images)
        expected_changes.append((change * evidence).flatten(1).sum(1))
        actual_changes.append(whole - score(images - change).float())
    expected, actual = torch.stack(expected_changes), torch.stack(actual_changes)  # (samples, N)
    scale = (expected * actual).mean(0) / expected.square().mean(0).clamp_min(1e-12)
    return (scale * expected - actual).square().mean(0)


@torch.no_grad()
def road(
    score: Score, images: Tensor, maps: Tensor, shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8), rng_seed: int = 0
) -> Tensor:
    """Return (N,) the ROAD score (Rong et al. 2022, "remove and debias"); higher is better.

    It is the mean over `shares` of (score without the least important pixels) - (score without the most important pixels).
    Removed pixels are filled with the noisy mean of their neighbours, so that the network cannot use the shape of the hole.
    Images need two spatial dimensions.
    """
    _check(images, maps)
    ranks = removal_order(maps).view(maps.shape)
    places = maps[0].numel()
    total = torch.zeros(len(images), device=images.device)
    for number, share in enumerate(shares):
        count = round(share * places)
        filled = [
            torch.stack([_imputed(i, gone, rng_seed + number) for i, gone in zip(images, holes, strict=True)])
            for holes in (ranks >= places - count, ranks < count)
        ]
        total += score(filled[0]).float() - score(filled[1]).float()
    return total / len(shares)


def _imputed(image: Tensor, gone: Tensor, rng_seed: int) -> Tensor:
    """Return (C, H, W) with the pixels of `gone` (H, W) replaced by the weighted mean of their eight neighbours, and noise.

    Direct neighbours have weight 1/6, diagonal ones 1/12 (ROAD, equation 3). The values of all removed pixels are the
    solution of one sparse linear system.
    """
    holes = gone.cpu().numpy()
    height, width = holes.shape
    if not holes.any():
        return image
    number = np.full(holes.shape, -1)
    number[holes] = np.arange(holes.sum())
    rows, columns = np.nonzero(holes)
    values = image.cpu().double().numpy()
    right = np.zeros((len(rows), len(values)))
    weight_sum = np.zeros(len(rows))
    places, neighbours, weights = [], [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy == dx == 0:
                continue
            weight = 1 / 6 if dy == 0 or dx == 0 else 1 / 12
            y, x = rows + dy, columns + dx
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            weight_sum += weight * inside
            index, y, x = np.nonzero(inside)[0], y[inside], x[inside]
            unknown = number[y, x] >= 0
            places.append(index[unknown])
            neighbours.append(number[y, x][unknown])
            weights.append(np.full(unknown.sum(), weight))
            np.add.at(right, index[~unknown], weight * values[:, y[~unknown], x[~unknown]].T)
    if holes.all():  # no known neighbours: use the mean
        solved = np.broadcast_to(values.mean((1, 2)), (len(rows), len(values)))
    else:
        pairs = np.concatenate(places), np.concatenate(neighbours)
        coupling = coo_matrix((np.concatenate(weights), pairs), shape=(len(rows), len(rows)))
        solved = spsolve((diags(weight_sum) - coupling).tocsc(), right).reshape(len(rows), -1)
    noise = 0.01 * torch.randn(len(values), len(rows), generator=torch.Generator().manual_seed(rng_seed))
    result = image.clone()
    result[:, gone] = torch.from_numpy(solved.T.copy()).float().to(image) + noise.to(image)
    return result
