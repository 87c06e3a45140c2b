"""Fully connected CRF with Gaussian pairwise terms (Krähenbühl & Koltun 2011). The one file that imports pydensecrf."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import StageError
from wsseg.types import Image, Mask, Scores

_TINY = 1e-5  # smallest probability whose logarithm is taken, as in pydensecrf.utils


@dataclass(frozen=True)
class CrfSettings:
    """Values of the dense CRF.

    Args:
        gaussian_sxy: standard deviation of the Gaussian kernel in pixels.
        gaussian_compat: its Potts weight.
        bilateral_sxy: standard deviation of the bilateral kernel in pixels.
        bilateral_srgb: the same in colour, on 0..255.
        bilateral_compat: its Potts weight.
        iterations: of the mean field.
        gt_prob: how sure a pixel's label is, where the unary is taken from labels (argmax of the scores); None takes
            the unary from the scores themselves.
    """

    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float
    iterations: int
    gt_prob: float | None = None


PRESETS = {
    # jiwoon-ahn/irn, misc/imutils.py, crf_inference_label
    "irn": CrfSettings(3, 3, 50, 5, 10, 10, gt_prob=0.7),
    # jiwoon-ahn/psa, tool/imutils.py, crf_inference
    "psa": CrfSettings(3, 3, 80, 13, 10, 10),
    # kazuto1011/deeplab-pytorch, configs/voc12.yaml (Chen et al. 2018)
    "deeplab": CrfSettings(1, 3, 67, 3, 4, 10),
}


def with_iterations(name: str, iterations: int) -> CrfSettings:
    """Return a preset with another number of iterations (0 keeps the preset's)."""
    return replace(PRESETS[name], iterations=iterations) if iterations else PRESETS[name]


def refine(image: Image, scores: Scores, settings: CrfSettings) -> Scores:
    """Refine scores so that they follow the image's edges.

    Args:
        image: (H, W, 3) uint8 RGB.
        scores: (C, H, W) float32, sum 1 over C; not modified.
        settings: the CRF's values.

    Returns:
        (C, H, W) float32, sum 1 over C. One label only comes back as it is.

    Raises:
        StageError: the sizes differ.
    """
    import pydensecrf.densecrf as dcrf  # compiled; imported where it is used so that the rest runs without it

    labels, height, width = scores.shape
    if image.shape != (height, width, 3):
        raise StageError(f"CRF: the image is {image.shape}, the scores {scores.shape}; legal: (H, W, 3) and (C, H, W)")
    if labels == 1:
        return scores.copy()
    if settings.gt_prob is None:
        unary = -np.log(np.maximum(scores, _TINY))
    else:
        unary = label_unary(scores.argmax(axis=0).astype(np.uint8), labels, settings.gt_prob)
    crf = dcrf.DenseCRF2D(width, height, labels)  # width first: swapped sizes are taken in silence
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1), dtype=np.float32))
    crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.array(image, order="C"),  # its buffer must be writable; ours may not be touched
        compat=settings.bilateral_compat,
    )
    return np.array(crf.inference(settings.iterations), dtype=np.float32).reshape(labels, height, width)


def label_unary(labels: Mask, count: int, gt_prob: float) -> NDArray[np.float32]:
    """Return the unary (count, H, W) of hard labels: -log gt_prob at the label, the rest shared by the others."""
    unary = np.full((count, *labels.shape), -np.log((1 - gt_prob) / (count - 1)), dtype=np.float32)
    np.put_along_axis(unary, labels[None].astype(np.intp), np.float32(-np.log(gt_prob)), axis=0)
    return unary
