"""The permutohedral lattice of an image, compiled by Numba (Adams, Baek & Davis 2010).

A Gaussian filter of N pixels over d features becomes: *splat* every pixel onto the d + 1 corners of the simplex that it
lies in, *blur* the M corners that exist along the d + 1 axes of the lattice, *slice* the result back. Corner 0 stands
for all corners that do not exist; it stays zero.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wsseg.crf.compiled import compiled, compiled_as_written
from wsseg.crf.vectors import blur_row, splat_one
from wsseg.errors import StageError
from wsseg.types import Image

BLOCK = 256  # pixels that are worked on together; what they need fits the first cache
_HASH = np.int64(-7046029254386353131)  # 2^64 / golden ratio, odd
_FEW_SLOTS = 1 << 14


@dataclass(frozen=True)
class Lattice:
    """A lattice and where each of N pixels lies in it.

    Args:
        corners: (N, d + 1) uint32, numbers of the corners around each pixel, 1..M.
        weights: (N, d + 1) float32, barycentric, sum 1 (times the square root of the filter's gain: both splat and
            slice bear one).
        neighbours: (d + 1, M + 1, 2) uint32, the corners before and behind along each axis, 0 for none.
        table: (S,) uint32, hash table of the corners' numbers, for pixels that come later.
        keys: (M + 1,) int64, what identifies each corner.
        space: how keys are made.
        widths: (d,) float32, what one standard deviation of the kernel is along each feature.
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
        """A tuple of d + 1: what `wsseg.crf.vectors` asks for."""
        return (0,) * int(self.corners.shape[1])


@dataclass(frozen=True)
class KeySpace:
    """How corners are numbered without clashes, for all pixels that an image can have.

    A corner's coordinates are all congruent to its colour (0..d) modulo d + 1, and sum to 0: d quotients and the
    colour are its identity.

    Args:
        axes: (d + 1,) int64, what one step along each axis adds to a key, over d + 1; 0 for the last.
        origin: (d + 1,) int64, lowest quotient along each axis.
        room: how many keys of one colour there are.
    """

    axes: NDArray[np.int64]
    origin: NDArray[np.int64]
    room: int


def bilateral_lattice(image: Image, sxy: float, srgb: float, samples: NDArray[np.int32]) -> Lattice:
    """Return the lattice of pixels (N,), numbered by rows, over (x / sxy, y / sxy, rgb / srgb)."""
    return _built(image, np.array([sxy, sxy, srgb, srgb, srgb], np.float32), samples)


def gaussian_lattice(size: tuple[int, int], sxy: float, samples: NDArray[np.int32]) -> Lattice:
    """Return the same over (x / sxy, y / sxy) for an image of a size (H, W)."""
    return _built(np.empty((*size, 0), np.uint8), np.array([sxy, sxy], np.float32), samples)


def _built(image: NDArray[np.uint8], widths: NDArray[np.float32], samples: NDArray[np.int32]) -> Lattice:
    space = key_space(image.shape[:2], tuple(widths.tolist()))
    simplex = (0,) * (len(widths) + 1)
    corners, weights, neighbours, table, keys = _build(
        image, samples, widths, scales(len(widths)), space.axes, space.origin, simplex
    )
    return Lattice(corners, weights, neighbours, table, keys, space, widths)


def scales(features: int) -> NDArray[np.float32]:
    """Return (d,) factors that embed unit-variance features so that the blur has unit variance (their section 3.1)."""
    index = np.arange(features)
    root = np.sqrt(2.0 / 3.0) * (features + 1) / np.sqrt((index + 1.0) * (index + 2.0))
    return np.asarray(root, dtype=np.float32)


@lru_cache(maxsize=64)
def key_space(size: tuple[int, ...], widths: tuple[float, ...], images: int = 1) -> KeySpace:
    """Return the key space of all images up to a size; StageError where 63 bits do not hold it for so many images."""
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
            f"{size[0]} x {size[1]} px; expected: wider ones, or smaller or fewer images at once"
        )
    return KeySpace(axes, origin, room)


@compiled_as_written
def locate(  # type: ignore[no-untyped-def]
    image, pixels, count, widths, embedding, axes, origin, raised, quotients, ranks, weights, keys, simplex
):  # fmt: skip
    """Find the simplices around the first `count` of `pixels` (their section 3.2), a block at once.

    `weights` (d + 1, BLOCK) and `keys` (d + 1, BLOCK) are filled: barycentric coordinate and key of corner 0..d;
    `raised` (d + 1, BLOCK) float32, `quotients` and `ranks` (d + 1, BLOCK) int32 are room to work in. `widths` and
    `embedding` are what the features x, y, colours are divided by and multiplied with.
    """
    size = len(simplex)
    inverse = np.float32(1.0 / size)
    columns = np.int32(image.shape[1])
    # elevate onto the plane of coordinates that sum to 0
    running = weights[0]
    for i in range(count):
        running[i] = 0
    for j in range(size - 1, 0, -1):
        own, feature = raised[j], raised[0]
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
            own[i] = running[i] - step * scaled
            running[i] += scaled
    for i in range(count):
        raised[0, i] = running[i]
    # nearest point of colour 0, what is left over, and the order of what is left over
    excess = quotients[size]
    for i in range(count):
        excess[i] = 0
    for j in range(size):
        own, quotient, rank = raised[j], quotients[j], ranks[j]
        for i in range(count):
            rounded = np.floor(own[i] * inverse + np.float32(0.5))
            quotient[i] = np.int32(rounded)
            excess[i] += quotient[i]
            own[i] -= rounded * np.float32(size)
            rank[i] = 0
    for j in range(size - 1):
        for k in range(j + 1, size):
            one, other, one_rank, other_rank = raised[j], raised[k], ranks[j], ranks[k]
            for i in range(count):
                less = np.int32(one[i] < other[i])
                one_rank[i] += less
                other_rank[i] += np.int32(1) - less
    whole = np.int32(size)
    for j in range(size):
        own, quotient, rank = raised[j], quotients[j], ranks[j]
        for i in range(count):
            moved = rank[i] + excess[i]
            wrapped = np.int32(moved < 0) - np.int32(moved >= whole)
            rank[i] = moved + wrapped * whole
            quotient[i] += wrapped
            own[i] -= np.float32(wrapped * whole)
    # keys: corner r is the one of colour 0, plus r along every axis, minus d + 1 along the axes of rank above d - r
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
    # barycentric coordinates: differences of the sorted rests; `ordered` takes the quotients' room
    ordered = quotients.view(np.float32)
    for j in range(size):
        own, rank = raised[j], ranks[j]
        for i in range(count):
            ordered[rank[i], i] = own[i] * inverse
    for i in range(count):
        weights[0, i] = ordered[size - 1, i] + (np.float32(1) - ordered[0, i])
    for r in range(1, size):
        for i in range(count):
            weights[r, i] = ordered[size - 1 - r, i] - ordered[size - r, i]


@compiled
def _build(image, samples, widths, embedding, axes, origin, simplex):  # type: ignore[no-untyped-def]
    """Return (corners, weights, neighbours, table, keys)."""
    size = len(simplex)
    gain = np.float32(math.sqrt(1 / (1 + 2.0 ** (1 - size))))  # of the filter's, one root for splat, one for slice
    corners = np.empty((samples.shape[0], size), np.uint32)
    weights = np.empty((samples.shape[0], size), np.float32)
    raised, shares = np.empty((size, BLOCK), np.float32), np.empty((size, BLOCK), np.float32)
    quotients, ranks = np.empty((size + 1, BLOCK), np.int32), np.empty((size, BLOCK), np.int32)
    wanted = np.empty((size, BLOCK), np.int64)
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
            raised, quotients, ranks, shares, wanted, simplex,
        )  # fmt: skip
        # room for all that this block can add, at most half full
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
                key = wanted[r, i]
                weights[start + i, r] = shares[r, i] * gain
                if key != last_key[r]:  # the pixel before mostly has the same
                    slot = _slot(key, mask)
                    while table[slot] != 0 and keys[table[slot]] != key:
                        slot = (slot + 1) & mask
                    if table[slot] == 0:
                        total += 1
                        table[slot] = total
                        keys[total] = key
                    last_key[r], last_number[r] = key, table[slot]
                corners[start + i, r] = last_number[r]
    # a step along an axis adds 1 to every coordinate and takes d + 1 off that axis's own
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
    """Return where a key is looked for first."""
    mixed = key * _HASH
    return (mixed ^ ((mixed >> 29) & np.int64(0x7FFFFFFFF))) & mask


@compiled
def find_corner(table, keys, key):  # type: ignore[no-untyped-def]
    """Return the number of the corner with a key, 0 where there is none."""
    mask = np.int64(table.shape[0] - 1)
    slot = _slot(key, mask)
    while table[slot] != 0 and keys[table[slot]] != key:
        slot = (slot + 1) & mask
    return table[slot]


@compiled
def corner_sums(values, corners, weights, neighbours, row, simplex):  # type: ignore[no-untyped-def]
    """Return (M + 1, W): `values` (N, W) splatted and blurred."""
    sums = np.zeros((neighbours.shape[1], len(row)), np.float32)
    for n in range(corners.shape[0]):
        splat_one(sums, corners, weights, n, values, n * len(row), 1, row, simplex)
    return blur(sums, np.zeros_like(sums), neighbours, row)[0]


@compiled
def blur(values, spare, neighbours, row):  # type: ignore[no-untyped-def]
    """Blur `values` (M + 1, W) with (1/2, 1, 1/2) along each axis; return the array that holds it, and the other."""
    for axis in range(neighbours.shape[0]):
        for v in range(1, values.shape[0]):
            blur_row(spare, values, v, np.int64(neighbours[axis, v, 0]), np.int64(neighbours[axis, v, 1]), row)
        values, spare = spare, values
    return values, spare
