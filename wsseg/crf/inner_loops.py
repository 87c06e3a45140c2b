"""The inner loops of the lattice's filter: functions that Numba inlines into the compiled loops over pixels and corners.

A simplex is passed as a tuple of d + 1 zeros, whose length is part of the compiled type, so that the loop over its corners
is unrolled. Pixels are uint64, so that Numba does not test for negative indices.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np


def inlined(function: Callable[..., Any]) -> Any:
    """Return a function that is inlined into its compiled callers."""
    return numba.njit(inline="always")(function)


@inlined
def sliced(sums, corners, weights, pixel, channel, simplex):  # type: ignore[no-untyped-def]
    """Return one channel of the sums (M + 1, W), interpolated at a pixel."""
    total = np.float32(0)
    for r in range(len(simplex)):
        total += weights[pixel, r] * sums[corners[pixel, r], channel]
    return total


@inlined
def splat(sums, corners, weights, pixel, channel, value, simplex):  # type: ignore[no-untyped-def]
    """Add a pixel's value of one channel to the sums (M + 1, W) of its corners."""
    for r in range(len(simplex)):
        sums[corners[pixel, r], channel] += weights[pixel, r] * value
