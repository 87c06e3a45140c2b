"""The dense CRF of one image: kernels are set up once and serve any number of unaries."""

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.crf.settings import CrfSettings, Normalization, best_labels, costs, label_unary, score_unary
from wsseg.errors import StageError
from wsseg.types import Image, Scores

if TYPE_CHECKING:
    from wsseg.crf.mean_field import Kernel
    from wsseg.crf.torch_engine import TorchMeanField

Engine = Literal["numba", "torch", "reference"]
_COARSE_FROM = 64  # px; in smaller images the sums over every third pixel are too rough


class DenseCrf:
    """A fully connected CRF over an image's pixels (Krähenbühl & Koltun 2011).

    Args:
        image: (H, W, 3) uint8 RGB; not modified.
        settings: kernels, compatibilities and iterations; `wsseg.crf.settings.PRESETS` holds the published ones.
        engine: ``numba``, ``torch`` or ``reference`` (pydensecrf).
        exact: compute every update on every pixel. If not, the engine ``numba`` iterates on every third pixel and
            updates the rest along the labels' borders once; the label of about one pixel in 300 differs.

    Raises:
        StageError: the image is not what it should be.
    """

    def __init__(self, image: Image, settings: CrfSettings, engine: Engine = "numba", exact: bool = False) -> None:
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            found = getattr(image, "dtype", type(image).__name__)
            raise StageError(f"CRF: the image is {found}; expected: uint8, 0 to 255 (srgb is measured on that scale)")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise StageError(f"CRF: the image is {image.shape}; expected: (H, W, 3), at least one pixel")
        if engine not in ("numba", "torch", "reference"):
            raise StageError(f"CRF: engine: found {engine!r}; expected: numba, torch, reference")
        self.image, self.settings, self.engine = np.ascontiguousarray(image), settings, engine
        fits = min(image.shape[:2]) >= _COARSE_FROM and settings.is_potts
        self.exact = exact or not fits

    def refine(self, scores: Scores) -> Scores:
        """Refine scores (C, H, W), sum 1 over C, so that they follow the image's edges; the unary is the settings'.

        One label only comes back as it is.

        Raises:
            StageError: wrong shape, NaN, or values outside 0..1.
        """
        self._check(scores, "scores")
        if scores.min() < 0 or scores.max() > 1 + 1e-3:
            raise StageError(f"CRF: scores between {scores.min():.3g} and {scores.max():.3g}; expected: 0 to 1")
        if len(scores) == 1:
            return scores.copy()
        if self.settings.gt_prob is None:
            return self.infer(score_unary(scores))
        return self.infer(label_unary(best_labels(scores), len(scores), self.settings.gt_prob))

    def infer(self, unary: NDArray[np.float32], iterations: int | None = None) -> Scores:
        """Return the mean-field marginals (C, H, W) float32, sum 1 over C, of a unary (C, H, W) of energies.

        Raises:
            StageError: wrong shape, or a value is not finite.
        """
        self._check(unary, "unary")
        unary = np.ascontiguousarray(unary, dtype=np.float32)
        iterations = self.settings.iterations if iterations is None else iterations
        labels = len(unary)
        for compat in (self.settings.gaussian_compat, self.settings.bilateral_compat):
            if np.ndim(compat) and np.shape(compat) != (labels, labels):
                raise StageError(
                    f"CRF: costs of shape {np.shape(compat)} for {labels} labels; expected: a square of that"
                )
        if labels == 1:
            return np.ones_like(unary)
        if self.engine == "reference":
            from wsseg.crf.reference import reference_mean_field

            return reference_mean_field(self.image, unary, self.settings, iterations)
        if self.engine == "torch":
            return self._torch.infer([unary], iterations)[0]
        if iterations == 0:
            return _softmax(-unary)
        if not self.settings.is_potts:
            return self._general_mean_field(unary, iterations)
        from wsseg.crf.mean_field import potts_mean_field

        compats = (float(self.settings.gaussian_compat), float(self.settings.bilateral_compat))
        return potts_mean_field(
            self.image, unary, self._kernels, compats, iterations, *self._samples, self.settings.normalization
        )

    def _check(self, values: NDArray[np.float32], what: str) -> None:
        size = self.image.shape[:2]
        if values.ndim != 3 or values.shape[1:] != size or len(values) == 0:
            raise StageError(
                f"CRF: the image is {self.image.shape}, the {what} {values.shape}; expected: (C, {size[0]}, {size[1]})"
            )
        if not np.isfinite(values).all():
            raise StageError(f"CRF: the {what} hold NaN or infinity; expected: finite numbers")

    @property
    def _samples(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return sampled(self.image.shape[0], self.image.shape[1], not self.exact)

    @cached_property
    def _torch(self) -> "TorchMeanField":
        from wsseg.crf.torch_engine import TorchMeanField

        return TorchMeanField([self.image], self.settings)

    @cached_property
    def _kernels(self) -> "tuple[Kernel, Kernel]":
        from wsseg.crf.lattice import bilateral_lattice
        from wsseg.crf.mean_field import kernel_of

        settings, size = self.settings, (self.image.shape[0], self.image.shape[1])
        lattice = bilateral_lattice(self.image, settings.bilateral_sxy, settings.bilateral_srgb, self._samples[0])
        return (
            gaussian_kernel(size, settings.gaussian_sxy, not self.exact, settings.normalization),
            kernel_of(lattice, settings.normalization),
        )

    def _general_mean_field(self, unary: NDArray[np.float32], iterations: int) -> Scores:
        """Mean field with matrices of costs: algorithm 1 of the paper, step by step."""
        labels = len(unary)
        energy = unary.reshape(labels, -1).T  # (N, C)
        prices = [costs(c, labels) for c in (self.settings.gaussian_compat, self.settings.bilateral_compat)]
        marginals = _softmax(-energy.T)
        for _ in range(iterations):
            total = energy.copy()
            for kernel, price in zip(self._kernels, prices, strict=True):
                total += kernel.filter(np.ascontiguousarray(marginals.T)) @ price
            marginals = _softmax(-total.T)
        return marginals.reshape(unary.shape)


@lru_cache(maxsize=4)  # images of one size share it
def sampled(height: int, width: int, some: bool) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the pixels (N,) that are iterated on, numbered by rows, and (H W,) which of them stands for each pixel."""
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    if not some:
        return numbers.ravel(), numbers.ravel()
    rows, columns = np.mgrid[:height, :width]
    sample = (rows + columns) % 3 == 0
    _, regions = cv2.distanceTransformWithLabels(
        (~sample).astype(np.uint8), cv2.DIST_L1, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    order = np.zeros(regions.max() + 1, np.int32)  # the number of the sample that each region grew from
    order[regions[sample]] = np.arange(sample.sum(), dtype=np.int32)
    return numbers[sample], order[regions].ravel()


@lru_cache(maxsize=4)  # images of one size share it
def gaussian_kernel(size: tuple[int, int], sxy: float, some: bool, normalization: Normalization) -> "Kernel":
    """Return the Gaussian kernel of images of a size (H, W), over all pixels or those of `sampled`."""
    from wsseg.crf.lattice import gaussian_lattice
    from wsseg.crf.mean_field import kernel_of

    return kernel_of(gaussian_lattice(size, sxy, sampled(*size, some)[0]), normalization)


def _softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the first axis."""
    raised = np.exp(values - values.max(axis=0))
    result: NDArray[np.float32] = raised / raised.sum(axis=0)
    return result
