"""The dense CRF of one image; its kernels are built once and used for any number of unaries."""

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.crf.settings import CrfSettings, best_labels, label_unary, score_unary
from wsseg.errors import StageError
from wsseg.types import Image, Scores

if TYPE_CHECKING:
    from wsseg.crf.kernel import Kernel
    from wsseg.crf.torch_engine import TorchMeanField

Engine = Literal["numba", "torch", "reference"]
_COARSE_FROM = 64  # px, side of an image below which sums over every third pixel are too inaccurate


def reduced(image: Image, long_side: int | None) -> Image:
    """Return an image whose long side is at most `long_side` px, by area averaging; None returns the image itself.

    The kernels of the presets are in pixels, and were made for photographs of 500 px.
    """
    height, width = image.shape[:2]
    if long_side is None or max(height, width) <= long_side:
        return image
    scale = long_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def resized(scores: Scores, size: tuple[int, int], interpolation: int) -> Scores:
    """Return scores (C, h, w) at another (H, W)."""
    return np.stack([cv2.resize(s, size[::-1], interpolation=interpolation) for s in scores])


class DenseCrf:
    """A fully connected CRF over an image's pixels (Krähenbühl & Koltun 2011).

    Args:
        image: (H, W, 3) uint8 RGB; not modified.
        settings: kernels, Potts weights and iterations; `wsseg.crf.settings.PRESETS` holds published ones.
        engine: ``numba``, ``torch`` or ``reference`` (pydensecrf).
        exact: update every pixel in every iteration. If False, the engine ``numba`` iterates on every third pixel and
            updates the other pixels along the borders of the labels once; the label of about one pixel in 300 differs.
        long_side: long side in px at which `refine` works if the image is larger, see `reduced`; None for the image's own.

    Raises:
        StageError: the image is not (H, W, 3) uint8 with at least one pixel, or the engine is unknown.
    """

    def __init__(
        self,
        image: Image,
        settings: CrfSettings,
        engine: Engine = "numba",
        exact: bool = False,
        long_side: int | None = None,
    ) -> None:
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, "dtype", type(image).__name__)
            raise StageError(f"CRF: the image is {kind}; expected: uint8, 0 to 255 (the scale of srgb)")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise StageError(f"CRF: the image is {image.shape}; expected: (H, W, 3), at least one pixel")
        if engine not in ("numba", "torch", "reference"):
            raise StageError(f"CRF: engine: found {engine!r}; expected: numba, torch, reference")
        self.size = (image.shape[0], image.shape[1])
        self.image, self.settings, self.engine = np.ascontiguousarray(reduced(image, long_side)), settings, engine
        self.exact = exact or min(self.image.shape[:2]) < _COARSE_FROM

    def refine(self, scores: Scores) -> Scores:
        """Refine scores (C, H, W), sum 1 over C, so that they follow the edges of the image.

        The unary is -log of the scores, or of hard labels if the settings have a `gt_prob`. Scores of a single label are
        returned unchanged.

        Raises:
            StageError: wrong shape, NaN, or values outside 0..1.
        """
        if (working := self.image.shape[:2]) != self.size and scores.shape[1:] == self.size:
            small = resized(scores, (working[0], working[1]), cv2.INTER_AREA)
            return resized(self.refine(small / small.sum(axis=0, keepdims=True)), self.size, cv2.INTER_LINEAR)
        self._check(scores, "scores")
        if scores.min() < 0 or scores.max() > 1 + 1e-3:
            raise StageError(f"CRF: scores between {scores.min():.3g} and {scores.max():.3g}; expected: 0 to 1")
        if len(scores) == 1:
            return scores.copy()
        if self.settings.gt_prob is None:
            return self.infer(score_unary(scores))
        return self.infer(label_unary(best_labels(scores), len(scores), self.settings.gt_prob))

    def infer(self, unary: NDArray[np.float32], iterations: int | None = None) -> Scores:
        """Return the mean-field marginals (C, H, W) float32, sum 1 over C, for a unary (C, H, W) of energies.

        Raises:
            StageError: wrong shape, or a value is not finite.
        """
        self._check(unary, "unary")
        unary = np.ascontiguousarray(unary, dtype=np.float32)
        iterations = self.settings.iterations if iterations is None else iterations
        if len(unary) == 1:
            return np.ones_like(unary)
        if self.engine == "reference":
            from wsseg.crf.reference import reference_mean_field

            return reference_mean_field(self.image, unary, self.settings, iterations)
        if self.engine == "torch":
            return self._torch.infer([unary], iterations)[0]
        if iterations == 0:
            return _softmax(-unary)
        from wsseg.crf.mean_field import mean_field

        compats = (self.settings.gaussian_compat, self.settings.bilateral_compat)
        return mean_field(self.image, unary, self._kernels, compats, iterations, *self._samples)

    def _check(self, values: NDArray[np.float32], what: str) -> None:
        size = self.image.shape[:2]
        if values.ndim != 3 or values.shape[1:] != size or len(values) == 0:
            raise StageError(
                f"CRF: the image is {self.image.shape}, the {what} {values.shape}; expected: (C, {size[0]}, {size[1]})"
            )
        if not np.isfinite(values).all():
            raise StageError(f"CRF: the {what} contain NaN or infinity; expected: finite numbers")

    @property
    def _samples(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return sampled(self.image.shape[0], self.image.shape[1], not self.exact)

    @cached_property
    def _torch(self) -> "TorchMeanField":
        from wsseg.crf.torch_engine import TorchMeanField

        return TorchMeanField([self.image], self.settings)

    @cached_property
    def _kernels(self) -> "tuple[Kernel, Kernel]":
        from wsseg.crf.kernel import kernel_of
        from wsseg.crf.lattice import bilateral_lattice

        settings, size = self.settings, (self.image.shape[0], self.image.shape[1])
        lattice = bilateral_lattice(self.image, settings.bilateral_sxy, settings.bilateral_srgb, self._samples[0])
        return gaussian_kernel(size, settings.gaussian_sxy, not self.exact), kernel_of(lattice)


@lru_cache(maxsize=4)  # shared by images of one size
def sampled(height: int, width: int, some: bool) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the samples (N,), pixels in row-major order, and (H W,) the index of each pixel's nearest sample.

    The samples are every third pixel along diagonals if `some`, else all pixels.
    """
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    if not some:
        return numbers.ravel(), numbers.ravel()
    rows, columns = np.mgrid[:height, :width]
    sample = (rows + columns) % 3 == 0
    _, regions = cv2.distanceTransformWithLabels(
        (~sample).astype(np.uint8), cv2.DIST_L1, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    order = np.zeros(regions.max() + 1, np.int32)  # the index of the sample that each region grew from
    order[regions[sample]] = np.arange(sample.sum(), dtype=np.int32)
    return numbers[sample], order[regions].ravel()


@lru_cache(maxsize=4)  # shared by images of one size
def gaussian_kernel(size: tuple[int, int], sxy: float, some: bool) -> "Kernel":
    """Return the Gaussian kernel of images of a size (H, W), over the samples of `sampled`."""
    from wsseg.crf.kernel import kernel_of
    from wsseg.crf.lattice import gaussian_lattice

    return kernel_of(gaussian_lattice(size, sxy, sampled(*size, some)[0]))


def _softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the first axis."""
    powers = np.exp(values - values.max(axis=0))
    result: NDArray[np.float32] = powers / powers.sum(axis=0)
    return result
