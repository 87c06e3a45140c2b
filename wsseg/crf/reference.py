"""The engine ``reference``: pydensecrf. The one file that imports it."""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from wsseg.crf.settings import Compatibility, CrfSettings
from wsseg.errors import StageError
from wsseg.types import Image

_MISSING = 'CRF engine "reference": pydensecrf2 is not installed; pip install "wsseg[reference]", or use "numba"'


def check_installed() -> None:
    """Raise StageError unless pydensecrf is installed."""
    if find_spec("pydensecrf") is None:
        raise StageError(_MISSING)


def reference_mean_field(
    image: Image, unary: NDArray[np.float32], settings: CrfSettings, iterations: int
) -> NDArray[np.float32]:
    """Return the marginals (C, H, W) float32 that pydensecrf computes.

    Raises:
        StageError: it is not installed.
    """
    try:
        import pydensecrf.densecrf as dcrf
    except ImportError as error:
        raise StageError(_MISSING) from error
    normalization = {
        "symmetric": dcrf.NORMALIZE_SYMMETRIC,
        "before": dcrf.NORMALIZE_BEFORE,
        "after": dcrf.NORMALIZE_AFTER,
        "none": dcrf.NO_NORMALIZATION,
    }[settings.normalization]
    labels, height, width = unary.shape
    crf = dcrf.DenseCRF2D(width, height, labels)  # width first: swapped sizes are taken in silence
    crf.setUnaryEnergy(np.array(unary.reshape(labels, -1), dtype=np.float32, order="C"))
    crf.addPairwiseGaussian(
        sxy=settings.gaussian_sxy, compat=_compat(settings.gaussian_compat), normalization=normalization
    )
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.array(image, order="C"),  # its buffer must be writable; ours may not be touched
        compat=_compat(settings.bilateral_compat),
        normalization=normalization,
    )
    return np.array(crf.inference(iterations), dtype=np.float32).reshape(labels, height, width)


def _compat(compat: Compatibility) -> Compatibility:
    """Return a weight as it is, and costs as pydensecrf takes them: contiguous float32."""
    return np.ascontiguousarray(compat, np.float32) if isinstance(compat, np.ndarray) else float(compat)
