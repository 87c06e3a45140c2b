"""From marginals of the samples to marginals of all pixels: nearest samples, and one update along the borders of labels.

This is the only approximation of the default mode; `wsseg.crf.mean_field` iterates on the samples.
"""

import math

import numpy as np
from numpy.typing import NDArray

from wsseg.crf.compiled import compiled
from wsseg.crf.kernel import FEW, POWER, Kernel
from wsseg.crf.lattice import BLOCK, COLOUR, PLANE, find_corner, locate, scales
from wsseg.types import Image

_SURE = np.float32(0.9)  # a pixel whose best label is less probable belongs to the border
_AGAINST = np.float32(
    3
)  # a pixel whose unary prefers another label than its sample's by this energy belongs to the border
_REACH = 2  # px, distance from another label up to which a pixel belongs to the border


def enlarge(
    image: Image,
    unary: NDArray[np.float32],
    marginals: NDArray[np.float32],
    samples: NDArray[np.int32],
    nearest: NDArray[np.int32],
    kernels: tuple[Kernel, Kernel],
    sums: tuple[NDArray[np.float32], NDArray[np.float32]],
    compats: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the marginals (C, H W) float32 of all pixels.

    Args:
        image: (H, W, 3) uint8.
        unary: (C, H W) float32.
        marginals: (C, N) float32 of the samples.
        samples: (N,) pixels in row-major order.
        nearest: (H W,) the index of each pixel's nearest sample.
        kernels: Gaussian and bilateral kernel over the samples.
        sums: of each kernel, (slabs, M + 1, W), the blurred sums at the corners in the last iteration.
        compats: (2,) float32, the Potts weights of the kernels.
    """
    labels, (height, width) = len(unary), image.shape[:2]
    result, border = _enlarged(marginals, unary, samples, nearest, height, width)
    gaussian, bilateral = (_corners(kernel, s, labels) for kernel, s in zip(kernels, sums, strict=True))
    _finish(image, unary, result, border, POWER, compats, *gaussian, PLANE, *bilateral, COLOUR)
    return np.asarray(result)


def _corners(kernel: Kernel, sums: NDArray[np.float32], labels: int) -> tuple[NDArray[np.generic], ...]:
    """Return a kernel's arguments of `_finish`; the first is (M + 1, C + 1): sums of C - 1 labels, mass, constant."""
    planes = [*sums.transpose(0, 2, 1).reshape(-1, sums.shape[1])[: labels - 1], kernel.mass, kernel.constant]
    lattice = kernel.lattice
    space, embedding = lattice.space, scales(len(lattice.widths))
    return np.stack(planes, axis=1), lattice.table, lattice.keys, space.axes, space.origin, lattice.widths, embedding


@compiled
def _enlarged(marginals, unary, samples, nearest, height, width):  # type: ignore[no-untyped-def]
    """Return the marginals (C, H W) of the nearest samples, and the border pixels (B,).

    A pixel that is not a sample belongs to the border if its sample's best label is improbable, if another label is within
    `_REACH` of it, or if its unary clearly prefers another label.
    """
    labels = marginals.shape[0]
    best = np.zeros(samples.shape[0], np.uint16)
    unsure = np.empty(samples.shape[0], np.bool_)
    for n in range(samples.shape[0]):
        top = marginals[0, n]
        for c in range(1, labels):
            if marginals[c, n] > top:
                top = marginals[c, n]
                best[n] = c
        unsure[n] = top < _SURE
    result = np.empty((labels, height * width), np.float32)
    for c in range(labels):
        for p in range(height * width):
            result[c, p] = marginals[c, nearest[p]]
    border = np.empty(height * width - samples.shape[0], np.int32)
    count = 0
    for y in range(height):
        above, below = max(y - _REACH, 0), min(y + _REACH, height - 1)
        for x in range(width):
            p = y * width + x
            n = nearest[p]
            if samples[n] == p:
                continue
            left, right = max(x - _REACH, 0), min(x + _REACH, width - 1)
            label = best[n]
            against = np.float32(0)
            for c in range(labels):
                against = max(against, unary[label, p] - unary[c, p])
            if (
                unsure[n]
                or against > _AGAINST
                or not (
                    best[nearest[above * width + left]] == label == best[nearest[above * width + right]]
                    and best[nearest[below * width + left]] == label == best[nearest[below * width + right]]
                )
            ):
                border[count] = p
                count += 1
    return result, border[:count]


@compiled
def _take_messages(  # type: ignore[no-untyped-def]
    energies, count, weights, pixel_keys, sums, table, keys, power, factor, size
):  # fmt: skip
    """Subtract one kernel's messages to a block of pixels from `energies` (BLOCK, C)."""
    labels = energies.shape[1]
    message = np.empty(labels + 1, np.float32)
    last_key, last_number = np.full(size, -1, np.int64), np.zeros(size, np.uint32)
    for i in range(count):
        message[:] = 0
        for r in range(size):
            if pixel_keys[r, i] != last_key[r]:
                last_key[r], last_number[r] = pixel_keys[r, i], find_corner(table, keys, pixel_keys[r, i])
            corner, share = last_number[r], weights[r, i]
            for c in range(labels + 1):
                message[c] += share * sums[corner, c]
        gain = np.float32(math.sqrt(1 / (1 + 2.0 ** (1 - size))))
        mass = max(gain * message[labels - 1], np.float32(0))  # weights may be -1e-8
        receiver = factor * gain * (mass + FEW) ** power
        rest = message[labels]
        for c in range(labels - 1):
            energies[i, c] -= receiver * message[c]
            rest -= message[c]
        energies[i, labels - 1] -= receiver * rest


@compiled
def _finish(  # type: ignore[no-untyped-def]
    image, unary, result, border, power, factors,
    g_sums, g_table, g_keys, g_axes, g_origin, g_widths, g_embedding, plane,
    b_sums, b_table, b_keys, b_axes, b_origin, b_widths, b_embedding, colour,
):  # fmt: skip
    """Replace the marginals (C, H W) of the border pixels by the last iteration's update at full resolution."""
    labels = unary.shape[0]
    raised, shares = np.empty((6, BLOCK), np.float32), np.empty((6, BLOCK), np.float32)
    quotients, ranks = np.empty((7, BLOCK), np.int32), np.empty((6, BLOCK), np.int32)
    keys = np.empty((6, BLOCK), np.int64)
    energies = np.empty((BLOCK, labels), np.float32)
    for start in range(0, border.shape[0], BLOCK):
        count = min(BLOCK, border.shape[0] - start)
        pixels = border[start : start + count]
        for i in range(count):
            for c in range(labels):
                energies[i, c] = unary[c, pixels[i]]
        locate(
            image, pixels, count, g_widths, g_embedding, g_axes, g_origin, raised, quotients, ranks, shares, keys, plane
        )  # fmt: skip
        _take_messages(energies, count, shares, keys, g_sums, g_table, g_keys, power, factors[0], len(plane))
        locate(
            image, pixels, count, b_widths, b_embedding, b_axes, b_origin, raised, quotients, ranks, shares, keys, colour
        )  # fmt: skip
        _take_messages(energies, count, shares, keys, b_sums, b_table, b_keys, power, factors[1], len(colour))
        for i in range(count):
            least = energies[i].min()
            norm = np.float32(0)
            for c in range(labels):
                energies[i, c] = math.exp(least - energies[i, c])
                norm += energies[i, c]
            for c in range(labels):
                result[c, pixels[i]] = energies[i, c] / norm
