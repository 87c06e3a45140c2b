"""Mean field of the Potts model, compiled by Numba: the engine ``numba``.

Three changes make it fast and alter only the rounding:

- The messages of all labels sum to the message of a constant, which does not change between iterations. So one label is
  never filtered.
- Slice, softmax and splat of a block of pixels happen in one pass, so that each iteration reads the image once.
- The number of channels is part of the compiled type, and the exponential is a polynomial over a block.

The default mode iterates on some pixels only, the samples, which estimate the same sums at a part of the cost;
`wsseg.crf.borders` computes the other pixels from them.

Channels are stored in slabs of W = 1, 2, 4, 8 or 16 float32, padded with zeros: sums are (slabs, M + 1, W).
"""

import numpy as np
from numpy.typing import NDArray

from wsseg.crf.borders import enlarge
from wsseg.crf.compiled import compiled
from wsseg.crf.inner_loops import sliced, splat
from wsseg.crf.kernel import Kernel
from wsseg.crf.lattice import BLOCK, COLOUR, PLANE, blur
from wsseg.types import Image

_WIDEST = 16  # float32 per row; more channels take several slabs
_LEAST = np.float32(-60.0)  # exponents are clamped to this, because subnormal numbers are slow


def mean_field(
    image: Image,
    unary: NDArray[np.float32],
    kernels: tuple[Kernel, Kernel],
    compats: tuple[float, float],
    iterations: int,
    samples: NDArray[np.int32],
    nearest: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Return the marginals (C, H, W) float32 after parallel mean-field updates (Krähenbühl & Koltun 2011, algorithm 1).

    Args:
        image: (H, W, 3) uint8.
        unary: (C, H, W) float32, C >= 2.
        kernels: Gaussian and bilateral kernel over the samples.
        compats: the Potts weights of the kernels.
        iterations: number of updates, at least 1.
        samples: (N,) the pixels to iterate on, in row-major order; all pixels, or some for the approximation.
        nearest: (H W,) the index of each pixel's nearest sample.
    """
    labels, height, width = unary.shape
    gaussian, bilateral = kernels
    factors = np.array(compats, np.float32)
    total = factors[0] * gaussian.total + factors[1] * bilateral.total
    flat = unary.reshape(labels, -1)
    exact = len(samples) == height * width
    g, b = gaussian.lattice, bilateral.lattice
    row = (0,) * min(1 << max(labels - 2, 0).bit_length(), _WIDEST)  # C - 1 channels, rounded up to a power of two
    marginals, g_sums, b_sums = _solve(
        flat if exact else flat[:, samples], total, factors, iterations, row,
        g.corners, gaussian.weights, g.neighbours, PLANE, b.corners, bilateral.weights, b.neighbours, COLOUR,
    )  # fmt: skip
    if not exact:
        marginals = enlarge(image, flat, marginals, samples, nearest, kernels, (g_sums, b_sums), factors)
    return np.asarray(marginals.reshape(labels, height, width))


@compiled
def _exponentials(values, top, bits, count):  # type: ignore[no-untyped-def]
    """Replace the first `count` of `values` by exp(values - top), at most 1; `bits` is an int32 buffer."""
    powers = bits.view(np.float32)
    for j in range(count):
        # exp(x) = 2^k exp(r) with |r| <= log(2) / 2; polynomial of Cephes' expf
        x = max(values[j] - top[j], _LEAST)
        k = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
        r = x - k * np.float32(0.693359375) + k * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        values[j] = p * r * r + r + np.float32(1)
        bits[j] = np.int32(k + np.float32(127)) << np.int32(23)
    for j in range(count):
        values[j] *= powers[j]


@compiled
def _update(  # type: ignore[no-untyped-def]
    first, last, unary, total, factors, marginals, row,
    g_corners, g_weights, g_sums, g_next, plane,
    b_corners, b_weights, b_sums, b_next, colour,
):  # fmt: skip
    """Update all pixels once: slice the messages from the blurred sums, apply softmax, splat onto the next sums."""
    width, channels, slabs = len(row), unary.shape[0] - 1, g_sums.shape[0]
    block = np.zeros((slabs * width, BLOCK), np.float32)  # unused planes stay 0
    bits = np.empty(BLOCK, np.int32)
    rest, top, norm = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    g_next[:] = 0
    b_next[:] = 0
    for start in range(0, unary.shape[1], BLOCK):
        count = min(BLOCK, unary.shape[1] - start)
        if first:
            block[:] = 0
            rest[:] = 0
        else:
            for s in range(slabs):
                slab, spatial, alike = block[s * width : (s + 1) * width], g_sums[s], b_sums[s]
                for i in range(count):
                    pixel = np.uint64(start + i)
                    for k in range(len(row)):
                        g_message = sliced(spatial, g_corners, g_weights, pixel, k, plane)
                        b_message = sliced(alike, b_corners, b_weights, pixel, k, colour)
                        slab[k, i] = factors[0] * g_message + factors[1] * b_message
            for i in range(count):
                rest[i] = total[start + i]
        for c in range(channels):  # from messages to energies
            values, energies = block[c], unary[c, start : start + count]
            for i in range(count):
                rest[i] -= values[i]
                values[i] -= energies[i]
        energies = unary[channels, start : start + count]
        for i in range(count):
            rest[i] -= energies[i]
            top[i] = rest[i]
        for c in range(channels):
            values = block[c]
            for i in range(count):
                top[i] = max(top[i], values[i])
        _exponentials(rest, top, bits, count)
        for i in range(count):
            norm[i] = rest[i]
        for c in range(channels):
            values = block[c]
            _exponentials(values, top, bits, count)
            for i in range(count):
                norm[i] += values[i]
        for i in range(count):
            norm[i] = np.float32(1) / norm[i]
        for c in range(channels):
            values = block[c]
            for i in range(count):
                values[i] *= norm[i]
        if last:
            for i in range(count):
                marginals[channels, start + i] = rest[i] * norm[i]
            for c in range(channels):
                values = block[c]
                for i in range(count):
                    marginals[c, start + i] = values[i]
        else:
            for s in range(slabs):
                slab, spatial, alike = block[s * width : (s + 1) * width], g_next[s], b_next[s]
                for i in range(count):
                    pixel = np.uint64(start + i)
                    for k in range(len(row)):
                        splat(spatial, g_corners, g_weights, pixel, k, slab[k, i], plane)
                        splat(alike, b_corners, b_weights, pixel, k, slab[k, i], colour)


@compiled
def _solve(  # type: ignore[no-untyped-def]
    unary, total, factors, iterations, row,
    g_corners, g_weights, g_neighbours, plane,
    b_corners, b_weights, b_neighbours, colour,
):  # fmt: skip
    """Return the marginals (C, N) and the sums at the corners from which the last messages were sliced."""
    width = len(row)
    slabs = (unary.shape[0] - 2) // width + 1
    marginals = np.empty(unary.shape, np.float32)
    g_sums = np.zeros((3, slabs, g_neighbours.shape[1], width), np.float32)
    b_sums = np.zeros((3, slabs, b_neighbours.shape[1], width), np.float32)
    # indices of the arrays to slice from, to splat onto, and for the blur
    g_now, g_next, g_spare, b_now, b_next, b_spare = 0, 1, 2, 0, 1, 2
    for step in range(iterations + 1):
        _update(
            step == 0, step == iterations, unary, total, factors, marginals, row,
            g_corners, g_weights, g_sums[g_now], g_sums[g_next], plane,
            b_corners, b_weights, b_sums[b_now], b_sums[b_next], colour,
        )  # fmt: skip
        if step < iterations:
            for s in range(slabs):
                blur(g_sums[g_next, s], g_sums[g_spare, s], g_neighbours, row)
                blur(b_sums[b_next, s], b_sums[b_spare, s], b_neighbours, row)
            # after an odd number of axes (3, Gaussian) the blur's result is in the spare array, after 6 in the first one
            g_now, g_next, g_spare = g_spare, g_now, g_next
            b_now, b_next = b_next, b_now
    return marginals, g_sums[g_now], b_sums[b_now]
