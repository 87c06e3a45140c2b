"""Random walk of seeds over pixel affinities that a boundary map defines (Ahn, Cho & Kwak 2019, IRNet, sections 3.3 and 4.2).

The affinity of two positions is 1 minus the highest boundary on the path between them, including both ends; it is 0 for
positions further apart than a radius.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from wsseg.errors import StageError

_FRAME = 2  # positions, width of the image's frame


def neighbours(radius: int) -> list[tuple[int, int]]:
    """Return the offsets (dy, dx) of half of all positions closer than `radius`: one of each pair, nearest first."""
    offsets = [
        (dy, dx)
        for dy in range(radius)
        for dx in range(-radius + 1, radius)
        if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius
    ]
    return sorted(offsets, key=lambda d: (max(abs(d[0]), abs(d[1])), d))


def _step_before(dy: int, dx: int) -> tuple[int, int]:
    """Return the last offset but one on the straight path to (dy, dx); dy rounds up, so that it stays in the same half."""
    length = max(abs(dy), abs(dx))
    share = (length - 1) / length
    return math.floor(dy * share + 0.5), round(dx * share)


def starts(size: tuple[int, int], dy: int, dx: int) -> tuple[slice, slice]:
    """Return where pairs (p, p + (dy, dx)) inside of (H, W) begin; dy is not negative."""
    return slice(0, size[0] - dy), slice(max(0, -dx), size[1] - max(0, dx))


def ends(size: tuple[int, int], dy: int, dx: int) -> tuple[slice, slice]:
    """Return where the same pairs end."""
    return slice(dy, size[0]), slice(max(0, dx), size[1] + min(0, dx))


def highest_on_paths(boundary: Tensor, radius: int) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yield (offset, highest boundary on the path of each pair with that offset), nearest offsets first.

    A path is that to the place before, and one step more: one maximum an offset, and it can be trained through.

    Args:
        boundary: (..., H, W) in [0, 1].
        radius: in places.

    Yields:
        (dy, dx) and (..., h, w) over the pairs' `starts`.
    """
    size = (boundary.shape[-2], boundary.shape[-1])
    paths: dict[tuple[int, int], Tensor] = {(0, 0): boundary}
    for dy, dx in neighbours(radius):
        if dy >= size[0] or abs(dx) >= size[1]:
            continue
        before = _step_before(dy, dx)
        rows, columns = starts(size, dy, dx)
        old_rows, old_columns = starts(size, *before)
        rows = slice(rows.start - old_rows.start, rows.stop - old_rows.start)
        columns = slice(columns.start - old_columns.start, columns.stop - old_columns.start)
        end = boundary[(..., *ends(size, dy, dx))]
        paths[dy, dx] = torch.maximum(paths[before][..., rows, columns], end)
        yield (dy, dx), paths[dy, dx]


def transition(
    boundary: NDArray[np.float32], radius: int, beta: float, vectors: NDArray[np.float32] | None = None
) -> csr_array:
    """Return the walk's matrix (H W, H W), sparse, float32: row i holds the weights of the mean that replaces position i.

    The weights are affinities to the power of `beta`, 1 for the position itself, normalised per row. With `vectors`, (H, W, R) of
    length 1, affinities are multiplied with the cosines of the positions' vectors; negative cosines count as 0.

    Raises:
        StageError: the boundary is not (H, W) in [0, 1].
    """
    if boundary.ndim != 2 or not (boundary.min() >= 0 and boundary.max() <= 1):
        raise StageError(f"walk: the boundary is {boundary.shape}; expected: (H, W) in [0, 1]")
    size = (boundary.shape[0], boundary.shape[1])
    index = np.arange(math.prod(size), dtype=np.int32).reshape(size)
    rows, columns, weights = [index.ravel()], [index.ravel()], [np.ones(index.size, np.float32)]
    for (dy, dx), highest in highest_on_paths(torch.from_numpy(boundary), radius):
        affinity = 1 - highest.numpy()
        if vectors is not None:
            pairs = vectors[starts(size, dy, dx)], vectors[ends(size, dy, dx)]
            affinity = affinity * np.einsum("ijk,ijk->ij", *pairs).clip(0)
        affinity = (affinity ** np.float32(beta)).ravel()
        here, there = index[starts(size, dy, dx)].ravel(), index[ends(size, dy, dx)].ravel()
        rows += [here, there]
        columns += [there, here]
        weights += [affinity, affinity]
    matrix = csr_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(index.size,) * 2
    )
    total = np.asarray(matrix.sum(axis=1)).ravel()
    matrix.data /= np.repeat(total, np.diff(matrix.indptr)).astype(np.float32)
    return matrix


def walked(
    maps: NDArray[np.float32],
    boundary: NDArray[np.float32],
    radius: int = 5,
    beta: float = 10.0,
    steps: int = 256,
    frame: bool = False,
    vectors: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Propagate maps over the affinities of a boundary map (IRNet, equation 8).

    Args:
        maps: (C, H, W) in [0, 1].
        boundary: (H, W) in [0, 1]; maps are first multiplied with 1 - boundary, as in IRNet's code.
        radius: radius of a step, in positions.
        beta: exponent of the affinities; a higher value blocks more at weak boundaries.
        steps: number of steps.
        frame: whether the frame of the image is propagated as well and subtracted as background, see `above_frame`.
        vectors: (H, W, R) embeddings of the positions, see `transition`.

    Returns:
        (C, H, W) float32, divided by the maximum of all maps, so that a class with weak evidence is not scaled to 1. Maps
        of zeros stay zero.
    """
    start = maps
    if frame:
        edge = np.ones_like(boundary)
        edge[_FRAME:-_FRAME, _FRAME:-_FRAME] = 0
        start = np.concatenate([maps, (edge * (1 - maps.max(axis=0, initial=0)))[None]])
    matrix = transition(boundary, radius, beta, vectors)
    state = np.ascontiguousarray((start * (1 - boundary)).reshape(len(start), -1).T)  # (H W, C)
    for _ in range(steps):
        state = matrix @ state
    result = state.T.reshape(start.shape)
    return above_frame(_over_peak(result[:-1]), _over_peak(result[-1])) if frame else _over_peak(result)


def above_frame(maps: NDArray[np.float32], frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract from propagated maps their level at the image's frame, and the propagated frame.

    Water around a boat gets some of the boat's evidence, and so does water at the frame, while objects are rarely at the
    frame (the boundary prior of saliency detection, Wei et al. 2012). The median along the frame is subtracted from each
    map, then the propagated frame. A square root stretches the result, so that background levels of about 0.25 work as for
    maps without a random walk.

    Args:
        maps: (C, H, W) in [0, 1], propagated.
        frame: (H, W) in [0, 1], the propagated frame.

    Returns:
        (C, H, W) float32 in [0, 1] with maximum 1. A map without values above its frame becomes zero.
    """
    around = np.concatenate([maps[:, 0], maps[:, -1], maps[:, 1:-1, 0], maps[:, 1:-1, -1]], axis=1)
    level = np.median(around, axis=1)[:, None, None]
    peak = maps.max(axis=(1, 2), keepdims=True)
    room = np.where(peak > level, peak - level, 1)  # avoids a division by zero for a flat map
    result: NDArray[np.float32] = _over_peak(((maps - level) / room * peak - frame).clip(0)) ** np.float32(0.5)
    return result


def _over_peak(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values divided by their maximum; zeros stay zero."""
    peak = maps.max(initial=0)
    return maps / peak if peak > 0 else maps
