"""Mean field of the Potts model, compiled by Numba: the fast path of the engine ``numba``.

Three things make it fast and change no result beyond rounding:

- The messages of all labels sum to the message of a constant, which is known beforehand: one label is never filtered.
- Slice, softmax and splat of a block of pixels happen in one pass; the image is streamed once an iteration.
- All channels of a pixel are one vector (`wsseg.crf.vectors`), and the exponential is a polynomial over a block.

One thing approximates: all iterations run on a part of the pixels, the samples, which estimates the same sums at that part
of the cost; then the other pixels along the borders of the labels get one update from those sums. The rest take what their
nearest sample says.

Channels lie in slabs of W = 1, 2, 4, 8 or 16 float32, unused ones hold 0: sums are (slabs, M + 1, W).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsseg.crf.compiled import compiled
from wsseg.crf.lattice import BLOCK, Lattice, blur, corner_sums, find_corner, locate, scales
from wsseg.crf.settings import Normalization
from wsseg.crf.vectors import slice_one, slice_two, splat_two
from wsseg.types import Image

_WIDEST = 16  # float32 a row; more channels take several slabs
_SURE = np.float32(0.9)  # pixels whose best label is less probable count as border
_FEW = np.float32(1e-20)  # keeps a division from nothing, as the reference does
_LEAST = np.float32(-60.0)  # exponents below count as this one: subnormal numbers are slow
_PLANE, _COLOUR = (0,) * 3, (0,) * 6  # the simplices of the two kernels, see `wsseg.crf.vectors`
_AGAINST = np.float32(3)  # by how much a pixel must prefer another label than its sample's to be looked at itself
_REACH = 2  # px, how far from another label a pixel counts as border


@dataclass(frozen=True)
class Kernel:
    """One filter with its normalisation.

    Args:
        lattice: of N pixels.
        sending: (N, d + 1) float32, weights of the splat: the lattice's, normalised on the sender's side.
        receiving: (N, d + 1) float32, weights of the slice, normalised on the receiver's side.
        mass: (M + 1,) float32, the unnormalised filter of ones at each corner, before it is sliced.
        constant: (M + 1,) float32, the same of the sender's normalisation.
        total: (N,) float32, the normalised filter of ones: the sum of the messages of all labels.
    """

    lattice: Lattice
    sending: NDArray[np.float32]
    receiving: NDArray[np.float32]
    mass: NDArray[np.float32]
    constant: NDArray[np.float32]
    total: NDArray[np.float32]

    def filter(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, C) float32: `values` (N, C) filtered."""
        channels = values.shape[1]
        width = row_width(channels)
        padded = np.zeros((len(values), -(-channels // width) * width), np.float32)
        padded[:, :channels] = values
        for start in range(0, padded.shape[1], width):
            slab = np.ascontiguousarray(padded[:, start : start + width])
            padded[:, start : start + width] = _filtered(
                slab, self.lattice.corners, self.sending, self.receiving, self.lattice.neighbours, (0,) * width,
                self.lattice.simplex,
            )  # fmt: skip
        return padded[:, :channels]


def row_width(channels: int) -> int:
    """Return W for a number of channels: the next power of two, at most 16."""
    return min(1 << max(channels - 1, 0).bit_length(), _WIDEST)


def kernel_of(lattice: Lattice, normalization: Normalization) -> Kernel:
    """Return a lattice's filter with its normalisation."""
    mass = _constant_sums(lattice, lattice.weights)
    power = {"symmetric": -0.5, "before": -1.0, "after": -1.0}.get(normalization, 0.0)
    scaled = _normalized(lattice.corners, lattice.weights, mass, np.float32(power), lattice.simplex)
    sending = scaled if normalization in ("symmetric", "before") else lattice.weights
    receiving = scaled if normalization in ("symmetric", "after") else lattice.weights
    constant = _constant_sums(lattice, sending)
    return Kernel(lattice, sending, receiving, mass, constant, _sliced(lattice, receiving, constant))


def _constant_sums(lattice: Lattice, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    ones = np.ones((len(weights), 1), np.float32)
    sums: NDArray[np.float32] = corner_sums(ones, lattice.corners, weights, lattice.neighbours, (0,), lattice.simplex)
    return sums[:, 0]


def _sliced(lattice: Lattice, weights: NDArray[np.float32], sums: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = _slice_one(lattice.corners, weights, sums, lattice.simplex)
    return result


@compiled
def _filtered(values, corners, sending, receiving, neighbours, row, simplex):  # type: ignore[no-untyped-def]
    """Return (N, W): `values` splatted, blurred and sliced."""
    sums = corner_sums(values, corners, sending, neighbours, row, simplex)
    result = np.zeros_like(values)
    for n in range(corners.shape[0]):
        slice_one(result, n * len(row), 1, sums, corners, receiving, n, row, simplex)
    return result


@compiled
def _slice_one(corners, weights, sums, simplex):  # type: ignore[no-untyped-def]
    """Return (N,): `sums` (M + 1,) at the pixels."""
    result = np.zeros(corners.shape[0], np.float32)
    for n in range(corners.shape[0]):
        slice_one(result, n, 1, sums, corners, weights, n, (0,), simplex)
    return result


@compiled
def _normalized(corners, weights, mass, power, simplex):  # type: ignore[no-untyped-def]
    """Return the weights (N, d + 1), each pixel's times a power of the mass around it."""
    around = _slice_one(corners, weights, mass, simplex)
    result = np.empty_like(weights)
    for n in range(corners.shape[0]):
        factor = (around[n] + _FEW) ** power
        for r in range(len(simplex)):
            result[n, r] = factor * weights[n, r]
    return result


def potts_mean_field(
    image: Image,
    unary: NDArray[np.float32],
    kernels: tuple[Kernel, Kernel],
    compats: tuple[float, float],
    iterations: int,
    samples: NDArray[np.int32],
    nearest: NDArray[np.int32],
    normalization: Normalization,
) -> NDArray[np.float32]:
    """Return the marginals (C, H, W) float32 after `iterations` of parallel mean-field updates.

    Args:
        image: (H, W, 3) uint8.
        unary: (C, H, W) float32, C >= 2.
        kernels: Gaussian and bilateral, over the samples.
        compats: their Potts weights.
        iterations: of the mean field.
        samples: (N,) the pixels that are iterated on, numbered by rows; all, or some for the approximation.
        nearest: (H W,) which sample stands for each pixel.
        normalization: of the kernels.
    """
    labels, height, width = unary.shape
    gaussian, bilateral = kernels
    factors = np.array(compats, np.float32)
    if normalization == "none":  # a sum over the samples; the others are means
        factors *= np.float32(len(nearest) / len(samples))
    total = factors[0] * gaussian.total + factors[1] * bilateral.total
    flat = unary.reshape(labels, -1)
    every = len(samples) == height * width
    g, b = gaussian.lattice, bilateral.lattice
    row = (0,) * row_width(labels - 1)
    marginals, g_sums, b_sums = _solve(
        flat if every else flat[:, samples], total, factors, iterations, row,
        g.corners, gaussian.sending, gaussian.receiving, g.neighbours, _PLANE,
        b.corners, bilateral.sending, bilateral.receiving, b.neighbours, _COLOUR,
    )  # fmt: skip
    if every:
        return np.asarray(marginals.reshape(labels, height, width))
    power = np.float32({"symmetric": -0.5, "after": -1.0}.get(normalization, 0.0))
    result, border = _enlarged(marginals, flat, samples, nearest, height, width)
    _finish(
        image, flat, result, border, power, factors,
        *_of_kernel(gaussian, g_sums, labels), _PLANE, *_of_kernel(bilateral, b_sums, labels), _COLOUR,
    )  # fmt: skip
    return np.asarray(result.reshape(labels, height, width))


def _of_kernel(kernel: Kernel, sums: NDArray[np.float32], labels: int) -> tuple[NDArray[np.generic], ...]:
    """Return what `_finish` asks of a kernel; first, (M + 1, C + 1): sums of C - 1 labels, the mass, the constant."""
    planes = [*sums.transpose(0, 2, 1).reshape(-1, sums.shape[1])[: labels - 1], kernel.mass, kernel.constant]
    lattice = kernel.lattice
    space, embedding = lattice.space, scales(len(lattice.widths))
    return np.stack(planes, axis=1), lattice.table, lattice.keys, space.axes, space.origin, lattice.widths, embedding


@compiled
def _exponentials(values, top, bits, count):  # type: ignore[no-untyped-def]
    """Turn the first `count` of `values` into exp(values - top), which is at most 1; `bits` is room for int32."""
    powers = bits.view(np.float32)
    for j in range(count):
        # exp(x) = 2^k exp(r) with |r| <= log(2) / 2; the polynomial is that of Cephes' expf
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
    g_corners, g_sending, g_receiving, g_sums, g_next, plane,
    b_corners, b_sending, b_receiving, b_sums, b_next, colour,
):  # fmt: skip
    """One pass over the pixels: read messages from the blurred sums, update, splat onto the next sums."""
    width, channels, slabs = len(row), unary.shape[0] - 1, g_sums.shape[0]
    block = np.zeros((slabs * width, BLOCK), np.float32)  # unused planes stay 0
    flat = block.reshape(-1)
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
                spatial, alike = g_sums[s], b_sums[s]
                for i in range(count):
                    slice_two(
                        flat, s * width * BLOCK + i, BLOCK, start + i, row,
                        factors[0], spatial, g_corners, g_receiving, plane,
                        factors[1], alike, b_corners, b_receiving, colour,
                    )  # fmt: skip
            for i in range(count):
                rest[i] = total[start + i]
        for c in range(channels):  # from messages to energies
            own, energies = block[c], unary[c, start : start + count]
            for i in range(count):
                rest[i] -= own[i]
                own[i] -= energies[i]
        energies = unary[channels, start : start + count]
        for i in range(count):
            rest[i] -= energies[i]
            top[i] = rest[i]
        for c in range(channels):
            own = block[c]
            for i in range(count):
                top[i] = max(top[i], own[i])
        _exponentials(rest, top, bits, count)
        for i in range(count):
            norm[i] = rest[i]
        for c in range(channels):
            own = block[c]
            _exponentials(own, top, bits, count)
            for i in range(count):
                norm[i] += own[i]
        for i in range(count):
            norm[i] = np.float32(1) / norm[i]
        for c in range(channels):
            own = block[c]
            for i in range(count):
                own[i] *= norm[i]
        if last:
            for i in range(count):
                marginals[channels, start + i] = rest[i] * norm[i]
            for c in range(channels):
                own = block[c]
                for i in range(count):
                    marginals[c, start + i] = own[i]
        else:
            for s in range(slabs):
                spatial, alike = g_next[s], b_next[s]
                for i in range(count):
                    splat_two(
                        flat, s * width * BLOCK + i, BLOCK, start + i, row,
                        spatial, g_corners, g_sending, plane, alike, b_corners, b_sending, colour,
                    )  # fmt: skip


@compiled
def _solve(  # type: ignore[no-untyped-def]
    unary, total, factors, iterations, row,
    g_corners, g_sending, g_receiving, g_neighbours, plane,
    b_corners, b_sending, b_receiving, b_neighbours, colour,
):  # fmt: skip
    """Return the marginals (C, N), and the corners' sums that the last messages were read from."""
    width = len(row)
    slabs = (unary.shape[0] - 2) // width + 1
    marginals = np.empty(unary.shape, np.float32)
    g_sums = np.zeros((3, slabs, g_neighbours.shape[1], width), np.float32)
    b_sums = np.zeros((3, slabs, b_neighbours.shape[1], width), np.float32)
    # which of the three holds what is read, what is splatted onto, and what the blur needs beside it
    g_now, g_next, g_spare, b_now, b_next, b_spare = 0, 1, 2, 0, 1, 2
    for step in range(iterations + 1):
        _update(
            step == 0, step == iterations, unary, total, factors, marginals, row,
            g_corners, g_sending, g_receiving, g_sums[g_now], g_sums[g_next], plane,
            b_corners, b_sending, b_receiving, b_sums[b_now], b_sums[b_next], colour,
        )  # fmt: skip
        if step < iterations:
            for s in range(slabs):
                blur(g_sums[g_next, s], g_sums[g_spare, s], g_neighbours, row)
                blur(b_sums[b_next, s], b_sums[b_spare, s], b_neighbours, row)
            # three axes of the Gaussian's: the result lies in the spare array; six: it lies where it began
            g_now, g_next, g_spare = g_spare, g_now, g_next
            b_now, b_next = b_next, b_now
    return marginals, g_sums[g_now], b_sums[b_now]


@compiled
def _enlarged(marginals, unary, samples, nearest, height, width):  # type: ignore[no-untyped-def]
    """Return (C, H W) marginals of the nearest samples, and the border: pixels (B,) to be looked at more closely.

    Those are the pixels that are no samples and whose sample is unsure, or has another label beside it, or one that the
    pixel's own unary speaks against.
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
    energies, count, weights, wanted, sums, table, keys, power, factor, size
):  # fmt: skip
    """Take one kernel's messages to a block of pixels off `energies` (BLOCK, C)."""
    labels = energies.shape[1]
    found = np.empty(labels + 1, np.float32)
    last_key, last_number = np.full(size, -1, np.int64), np.zeros(size, np.uint32)
    for i in range(count):
        found[:] = 0
        for r in range(size):
            if wanted[r, i] != last_key[r]:
                last_key[r], last_number[r] = wanted[r, i], find_corner(table, keys, wanted[r, i])
            corner, share = last_number[r], weights[r, i]
            for c in range(labels + 1):
                found[c] += share * sums[corner, c]
        gain = np.float32(math.sqrt(1 / (1 + 2.0 ** (1 - size))))
        receiver = (
            factor * gain * (max(gain * found[labels - 1], np.float32(0)) + _FEW) ** power
        )  # weights may be -1e-8
        rest = found[labels]
        for c in range(labels - 1):
            energies[i, c] -= receiver * found[c]
            rest -= found[c]
        energies[i, labels - 1] -= receiver * rest


@compiled
def _finish(  # type: ignore[no-untyped-def]
    image, unary, result, border, power, factors,
    g_sums, g_table, g_keys, g_axes, g_origin, g_widths, g_embedding, plane,
    b_sums, b_table, b_keys, b_axes, b_origin, b_widths, b_embedding, colour,
):  # fmt: skip
    """Replace the marginals (C, H W) along the border by an update at full resolution: that of the last iteration."""
    labels = unary.shape[0]
    raised, shares = np.empty((6, BLOCK), np.float32), np.empty((6, BLOCK), np.float32)
    quotients, ranks = np.empty((7, BLOCK), np.int32), np.empty((6, BLOCK), np.int32)
    wanted = np.empty((6, BLOCK), np.int64)
    energies = np.empty((BLOCK, labels), np.float32)
    for start in range(0, border.shape[0], BLOCK):
        count = min(BLOCK, border.shape[0] - start)
        pixels = border[start : start + count]
        for i in range(count):
            for c in range(labels):
                energies[i, c] = unary[c, pixels[i]]
        locate(
            image,
            pixels,
            count,
            g_widths,
            g_embedding,
            g_axes,
            g_origin,
            raised,
            quotients,
            ranks,
            shares,
            wanted,
            plane,
        )
        _take_messages(energies, count, shares, wanted, g_sums, g_table, g_keys, power, factors[0], len(plane))
        locate(
            image,
            pixels,
            count,
            b_widths,
            b_embedding,
            b_axes,
            b_origin,
            raised,
            quotients,
            ranks,
            shares,
            wanted,
            colour,
        )
        _take_messages(energies, count, shares, wanted, b_sums, b_table, b_keys, power, factors[1], len(colour))
        for i in range(count):
            least = energies[i].min()
            norm = np.float32(0)
            for c in range(labels):
                energies[i, c] = math.exp(least - energies[i, c])
                norm += energies[i, c]
            for c in range(labels):
                result[c, pixels[i]] = energies[i, c] / norm
