"""The permutohedral lattice of an image, compiled by Numba (Adams, Baek & Davis 2010).

A Gaussian filter of N pixels with d features has three steps: *splat* every pixel onto the d + 1 corners of the simplex
that encloses it, *blur* the M existing corners along the d + 1 axes of the lattice, and *slice* the result back to the
pixels. Corner 0 represents all missing corners; its value is always zero.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsseg.crf.compiled import compiled, compiled_as_written
from wsseg.errors import StageError
from wsseg.types import Image

BLOCK = 256  # pixels that are processed together; their buffers fit into the L1 cache
_HASH = np.int64(-7046029254386353131)  # 2^64 / golden ratio, odd
_FEW_SLOTS = 1 << 14
PLANE, COLOUR = (
    (0,) * 3,
    (0,) * 6,
)  # the simplices of the Gaussian and the bilateral kernel, see `wsseg.crf.inner_loops`


@dataclass(frozen=True)
class Lattice:
    """A lattice and the positions of N pixels in it.

    Args:
        corners: (N, d + 1) uint32, numbers of the corners around each pixel, 1..M.
        weights: (N, d + 1) float32, barycentric coordinates, sum 1, times the square root of the filter's gain, which is
            applied by both splat and slice.
        neighbours: (d + 1, M + 1, 2) uint32, the next and the previous corner along each axis, 0 for none.
        table: (S,) uint32, hash table of the corners' numbers, to look up the corners of other pixels.
        keys: (M + 1,) int64, key of each corner.
        space: definition of the keys.
        widths: (d,) float32, standard deviation of the kernel along each feature.
    """

    corners: NDArray[np.uint32]
    weights: NDArray[np.float32]
    neighbours: NDArray[np.uint32]
    table: NDArray[np.uint32]
    keys: NDArray[np.int64]
    space: "KeySpace"
    widths: NDArray[np.float32]

    @property
    def simplex(self) -> tuple[int, ...]:
        """A tuple of length d + 1, see `wsseg.crf.inner_loops`."""
        return (0,) * int(self.corners.shape[1])


@dataclass(frozen=True)
class KeySpace:
    """A unique key for every corner that any pixel of an image can have.

    A corner's coordinates are all congruent to its colour (0..d) modulo d + 1, and sum to 0. So d quotients and the
    colour identify it.

    Args:
        axes: (d + 1,) int64, the increment of a key for one step along each axis, divided by d + 1; 0 for the last axis.
        origin: (d + 1,) int64, lowest quotient along each axis.
        room: number of keys of one colour.
    """

    axes: NDArray[np.int64]
    origin: NDArray[np.int64]
    room: int


def bilateral_lattice(image: Image, sxy: float, srgb: float, samples: NDArray[np.int32]) -> Lattice:
    """Return the lattice of pixels (N,), indices in row-major order, with features (x / sxy, y / sxy, rgb / srgb)."""
    return _built(image, np.array([sxy, sxy, srgb, srgb, srgb], np.float32), samples)


def gaussian_lattice(size: tuple[int, int], sxy: float, samples: NDArray[np.int32]) -> Lattice:
    """Return the lattice of pixels (N,) of an image of a size (H, W), with features (x / sxy, y / sxy)."""
    return _built(np.empty((*size, 0), np.uint8), np.array([sxy, sxy], np.float32), samples)


def _built(image: NDArray[np.uint8], widths: NDArray[np.float32], samples: NDArray[np.int32]) -> Lattice:
    space = key_space(image.shape[:2], tuple(widths.tolist()))
    simplex = (0,) * (len(widths) + 1)
    corners, weights, neighbours, table, keys = _build(
        image, samples, widths, scales(len(widths)), space.axes, space.origin, simplex
    )
    return Lattice(corners, weights, neighbours, table, keys, space, widths)


def scales(features: int) -> NDArray[np.float32]:
    """Return (d,) factors that scale features so that the blur has unit variance (Adams, Baek & Davis 2010, section 3.1)."""
    index = np.arange(features)
    root = np.sqrt(2.0 / 3.0) * (features + 1) / np.sqrt((index + 1.0) * (index + 2.0))
    return np.asarray(root, dtype=np.float32)


@lru_cache(maxsize=64)
def key_space(size: tuple[int, ...], widths: tuple[float, ...], images: int = 1) -> KeySpace:
    """Return the key space of images up to a size (H, W).

    Raises:
        StageError: the keys of so many images exceed 63 bits.
    """
    features = len(widths)
    high = np.array([size[1], size[0], *([255.0] * (features - 2))]) / np.array(widths) * scales(features)
    axes, origin, room = np.zeros(features + 1, np.int64), np.zeros(features + 1, np.int64), 1
    for axis in range(features):
        above = math.ceil(high[axis:].sum() / (features + 1)) + 3
        below = math.floor(-axis * high[axis - 1] / (features + 1)) - 3 if axis else -3
        if room < 2**63:
            axes[axis], origin[axis] = room, below
        room *= above - below + 1
    if room * (features + 1) * images >= 2**63:
        raise StageError(
            f"CRF: kernels of {', '.join(f'{w:g}' for w in widths)} (px, grey levels) are too fine for an image of "
            f"{size[0]} x {size[1]} px; expected: wider kernels, or smaller or fewer images at once"
        )
    return KeySpace(axes, origin, room)


@compiled_as_written
def locate(  # type: ignore[no-untyped-def]
    image, pixels, count, widths, embedding, axes, origin, raised, quotients, ranks, weights, keys, simplex
):  # fmt: skip
    """Find the simplices around the first `count` of `pixels` (Adams, Baek & Davis 2010, section 3.2), for one block.

    The results are written to `weights` and `keys` (d + 1, BLOCK): barycentric coordinate and key of corners 0..d.
    `raised` (d + 1, BLOCK) float32, `quotients` (d + 2, BLOCK) and `ranks` (d + 1, BLOCK) int32 are buffers. The features
    x, y and colours are divided by `widths` and multiplied with `embedding`.
    """
    size = len(simplex)
    inverse = np.float32(1.0 / size)
    columns = np.int32(image.shape[1])
    # elevate onto the plane of coordinates that sum to 0
    running = weights[0]
    for i in range(count):
        running[i] = 0
    for j in range(size - 1, 0, -1):
        elevated, feature = raised[j], raised[0]
        if j == 1:
            for i in range(count):
                feature[i] = np.float32(pixels[i] % columns)
        elif j == 2:
            for i in range(count):
                feature[i] = np.float32(pixels[i] // columns)
        else:
            for i in range(count):
                feature[i] = np.float32(image[pixels[i] // columns, pixels[i] % columns, j - 3])
        width, factor, step = widths[j - 1], embedding[j - 1], np.float32(j)
        for i in range(count):
            scaled = feature[i] / width * factor
            elevated[i] = running[i] - step * scaled
            running[i] += scaled
    for i in range(count):
        raised[0, i] = running[i]
    # nearest point of colour 0, the remainders, and their order
    excess = quotients[size]
    for i in range(count):
        excess[i] = 0
    for j in range(size):
        rest, quotient, rank = raised[j], quotients[j], ranks[j]
        for i in range(count):
            rounded = np.floor(rest[i] * inverse + np.float32(0.5))
            quotient[i] = np.int32(rounded)
            excess[i] += quotient[i]
            rest[i] -= rounded * np.float32(size)
            rank[i] = 0
    for j in range(size - 1):
        for k in range(j + 1, size):
            rest_j, rest_k, rank_j, rank_k = raised[j], raised[k], ranks[j], ranks[k]
            for i in range(count):
                less = np.int32(rest_j[i] < rest_k[i])
                rank_j[i] += less
                rank_k[i] += np.int32(1) - less
    period = np.int32(size)
    for j in range(size):
        rest, quotient, rank = raised[j], quotients[j], ranks[j]
        for i in range(count):
            moved = rank[i] + excess[i]
            wrapped = np.int32(moved < 0) - np.int32(moved >= period)
            rank[i] = moved + wrapped * period
            quotient[i] += wrapped
            rest[i] -= np.float32(wrapped * period)
    # keys: corner r is corner 0 plus r along every axis, minus d + 1 along the axes whose rank exceeds d - r
    first = keys[0]
    for i in range(count):
        first[i] = 0
    for j in range(size - 1):
        quotient, factor_key, low = quotients[j], axes[j] * size, origin[j]
        for i in range(count):
            first[i] += (np.int64(quotient[i]) - low) * factor_key
    for r in range(1, size):
        key, before = keys[r], keys[r - 1]
        for i in range(count):
            key[i] = before[i] + 1
        for j in range(size - 1):
            rank, factor_key = ranks[j], axes[j] * size
            for i in range(count):
                key[i] -= factor_key if rank[i] == size - r else np.int64(0)
    # barycentric coordinates: differences of the sorted remainders; `ordered` reuses the buffer of the quotients
    ordered = quotients.view(np.float32)
    for j in range(size):
        rest, rank = raised[j], ranks[j]
        for i in range(count):
            ordered[rank[i], i] = rest[i] * inverse
    for i in range(count):
        weights[0, i] = ordered[size - 1, i] + (np.float32(1) - ordered[0, i])
    for r in range(1, size):
        for i in range(count):
            weights[r, i] = ordered[size - 1 - r, i] - ordered[size - r, i]


@compiled
def _build(image, samples, widths, embedding, axes, origin, simplex):  # type: ignore[no-untyped-def]
    """Return (corners, weights, neighbours, table, keys)."""
    size = len(simplex)
    gain = np.float32(math.sqrt(1 / (1 + 2.0 ** (1 - size))))  # square root of the filter's gain
    corners = np.empty((samples.shape[0], size), np.uint32)
    weights = np.empty((samples.shape[0], size), np.float32)
    raised, shares = np.empty((size, BLOCK), np.float32), np.empty((size, BLOCK), np.float32)
    quotients, ranks = np.empty((size + 1, BLOCK), np.int32), np.empty((size, BLOCK), np.int32)
    block_keys = np.empty((size, BLOCK), np.int64)
    last_key, last_number = np.full(size, -1, np.int64), np.zeros(size, np.uint32)
    table = np.zeros(_FEW_SLOTS, np.uint32)
    mask = np.int64(table.shape[0] - 1)
    keys = np.empty(_FEW_SLOTS, np.int64)
    keys[0] = -1
    total = 0
    for start in range(0, samples.shape[0], BLOCK):
        count = min(BLOCK, samples.shape[0] - start)
        locate(
            image, samples[start : start + count], count, widths, embedding, axes, origin,
            raised, quotients, ranks, shares, block_keys, simplex,
        )  # fmt: skip
        # grow the arrays for the corners of this block; the table is at most half full
        if total + size * BLOCK >= keys.shape[0]:
            longer = np.empty(2 * keys.shape[0], np.int64)
            longer[: total + 1] = keys[: total + 1]
            keys = longer
        if 2 * (total + size * BLOCK) > mask:
            table = np.zeros(4 * table.shape[0], np.uint32)
            mask = np.int64(table.shape[0] - 1)
            for v in range(1, total + 1):
                slot = _slot(keys[v], mask)
                while table[slot] != 0:
                    slot = (slot + 1) & mask
                table[slot] = v
        for i in range(count):
            for r in range(size):
                key = block_keys[r, i]
                weights[start + i, r] = shares[r, i] * gain
                if key != last_key[r]:  # mostly the same as the previous pixel's
                    slot = _slot(key, mask)
                    while table[slot] != 0 and keys[table[slot]] != key:
                        slot = (slot + 1) & mask
                    if table[slot] == 0:
                        total += 1
                        table[slot] = total
                        keys[total] = key
                    last_key[r], last_number[r] = key, table[slot]
                corners[start + i, r] = last_number[r]
    # a step along an axis adds 1 to every coordinate and subtracts d + 1 from the coordinate of that axis
    neighbours = np.zeros((size, total + 1, 2), np.uint32)
    all_axes = axes.sum()
    for v in range(1, total + 1):
        key = keys[v]
        forth = key % size < size - 1
        for axis in range(size):
            if forth:
                behind = find_corner(table, keys, key + 1 - size * axes[axis])
            else:
                behind = find_corner(table, keys, key - (size - 1) + size * (all_axes - axes[axis]))
            if behind:
                neighbours[axis, v, 0] = behind
                neighbours[axis, behind, 1] = v
    return corners, weights, neighbours, table, keys[: total + 1].copy()


@compiled
def _slot(key, mask):  # type: ignore[no-untyped-def]
    """Return the first slot of a key in the hash table."""
    mixed = key * _HASH
    return (mixed ^ ((mixed >> 29) & np.int64(0x7FFFFFFFF))) & mask


@compiled
def find_corner(table, keys, key):  # type: ignore[no-untyped-def]
    """Return the number of the corner with a key, 0 if there is none."""
    mask = np.int64(table.shape[0] - 1)
    slot = _slot(key, mask)
    while table[slot] != 0 and keys[table[slot]] != key:
        slot = (slot + 1) & mask
    return table[slot]


@compiled
def blurred_ones(corners, weights, neighbours):  # type: ignore[no-untyped-def]
    """Return (M + 1,): ones at all pixels, splatted and blurred."""
    sums = np.zeros((neighbours.shape[1], 1), np.float32)
    for n in range(corners.shape[0]):
        for r in range(corners.shape[1]):
            sums[corners[n, r], 0] += weights[n, r]
    return blur(sums, np.zeros_like(sums), neighbours, (0,))[0].reshape(-1)


@compiled
def blur(values, spare, neighbours, row):  # type: ignore[no-untyped-def]
    """Blur `values` (M + 1, W) with (1/2, 1, 1/2) along each axis; return the result and the spare array."""
    for axis in range(neighbours.shape[0]):
        for v in range(1, values.shape[0]):
            before, behind = neighbours[axis, v, 0], neighbours[axis, v, 1]
            for k in range(len(row)):
                spare[v, k] = values[v, k] + np.float32(0.5) * (values[before, k] + values[behind, k])
        values, spare = spare, values
    return values, spare
