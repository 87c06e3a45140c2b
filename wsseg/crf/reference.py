"""The engine ``reference``: pydensecrf, which only this file imports."""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from wsseg.crf.settings import CrfSettings
from wsseg.errors import StageError
from wsseg.types import Image

_MISSING = 'CRF engine "reference": pydensecrf2 is not installed; pip install "wsseg[reference]", or use "numba"'


def check_installed() -> None:
    """Raise StageError if pydensecrf is not installed."""
    if find_spec("pydensecrf") is None:
        raise StageError(_MISSING)


def reference_mean_field(
    image: Image, unary: NDArray[np.float32], settings: CrfSettings, iterations: int
) -> NDArray[np.float32]:
    """Return the marginals (C, H, W) float32 that pydensecrf computes.

    Raises:
        StageError: pydensecrf is not installed.
    """
    try:
        import pydensecrf.densecrf as dcrf
    except ImportError as error:
        raise StageError(_MISSING) from error
    labels, height, width = unary.shape
    crf = dcrf.DenseCRF2D(width, height, labels)  # width first; pydensecrf does not notice swapped sizes
    crf.setUnaryEnergy(np.array(unary.reshape(labels, -1), dtype=np.float32, order="C"))
    crf.addPairwiseGaussian(
        sxy=settings.gaussian_sxy, compat=float(settings.gaussian_compat), normalization=dcrf.NORMALIZE_SYMMETRIC
    )
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.array(image, order="C"),  # a copy, because pydensecrf requires a writable buffer
        compat=float(settings.bilateral_compat),
        normalization=dcrf.NORMALIZE_SYMMETRIC,
    )
    return np.array(crf.inference(iterations), dtype=np.float32).reshape(labels, height, width)
