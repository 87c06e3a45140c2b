"""A filter over the pixels of an image: a lattice with symmetrically normalised weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsseg.crf.compiled import compiled
from wsseg.crf.inner_loops import sliced
from wsseg.crf.lattice import Lattice, blurred_ones

FEW = np.float32(1e-20)  # avoids a division by zero, as in pydensecrf
POWER = np.float32(-0.5)  # of the mass: half of the normalisation is applied by splat, half by slice


@dataclass(frozen=True)
class Kernel:
    """A filter K over N pixels, normalised to D^-1/2 K D^-1/2 with D = diag(K 1) (Krähenbühl  (Krähenbühl & Koltun 2013, section 3) Koltun 2013).

    Args:
        lattice: the lattice of the pixels.
        weights: (N, d + 1) float32, the lattice's weights with the normalisation, for splat and slice.
        mass: (M + 1,) float32, ones splatted with the lattice's own weights, and blurred.
        constant: (M + 1,) float32, ones splatted with `weights`, and blurred.
        total: (N,) float32, the normalised filter of ones, equal to the sum of the messages of all labels.
    """

    lattice: Lattice
    weights: NDArray[np.float32]
    mass: NDArray[np.float32]
    constant: NDArray[np.float32]
    total: NDArray[np.float32]


def kernel_of(lattice: Lattice) -> Kernel:
    """Return the normalised filter of a lattice."""
    mass = blurred_ones(lattice.corners, lattice.weights, lattice.neighbours)
    weights = _normalized(lattice.corners, lattice.weights, mass, POWER, lattice.simplex)
    constant = blurred_ones(lattice.corners, weights, lattice.neighbours)
    return Kernel(lattice, weights, mass, constant, _sliced(lattice.corners, weights, constant, lattice.simplex))


@compiled
def _sliced(corners, weights, sums, simplex):  # type: ignore[no-untyped-def]
    """Return (N,), the sums (M + 1,) of the corners interpolated at the pixels."""
    result, column = np.zeros(corners.shape[0], np.float32), sums.reshape(-1, 1)
    for n in range(corners.shape[0]):
        result[n] = sliced(column, corners, weights, np.uint64(n), 0, simplex)
    return result


@compiled
def _normalized(corners, weights, mass, power, simplex):  # type: ignore[no-untyped-def]
    """Return the weights (N, d + 1), each multiplied with a power of the mass at its pixel."""
    around = _sliced(corners, weights, mass, simplex)
    result = np.empty_like(weights)
    for n in range(corners.shape[0]):
        factor = (around[n] + FEW) ** power
        for r in range(len(simplex)):
            result[n, r] = factor * weights[n, r]
    return result
