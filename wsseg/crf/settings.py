"""Settings of the dense CRF, presets of published methods, and unaries."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import StageError

Preset = Literal["irn", "psa", "deeplab", "toco", "clip_es"]
_TINY = 1e-5  # probabilities are clamped to this before the logarithm, as in pydensecrf.utils


@dataclass(frozen=True, eq=False)
class CrfSettings:
    """Settings of the dense CRF (Krähenbühl & Koltun 2011, equation 3) with Potts compatibilities.

    Args:
        gaussian_sxy: standard deviation of the Gaussian kernel in pixels.
        gaussian_compat: Potts weight of the Gaussian kernel.
        bilateral_sxy: standard deviation of the bilateral kernel in pixels.
        bilateral_srgb: standard deviation of the bilateral kernel in colour, on the scale 0 to 255.
        bilateral_compat: Potts weight of the bilateral kernel.
        iterations: number of mean-field updates.
        gt_prob: probability of the label if the unary is computed from hard labels (argmax of the scores); None computes
            the unary from the scores.
    """

    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float
    iterations: int
    gt_prob: float | None = None

    def __post_init__(self) -> None:
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            if not getattr(self, name) > 0:
                raise StageError(f"CRF: {name}: found {getattr(self, name)}; expected: more than 0")
        if self.iterations < 0:
            raise StageError(f"CRF: iterations: found {self.iterations}; expected: 0 or more")
        if self.gt_prob is not None and not 0 < self.gt_prob < 1:
            raise StageError(f"CRF: gt_prob: found {self.gt_prob}; expected: between 0 and 1")


PRESETS: dict[str, CrfSettings] = {
    # jiwoon-ahn/irn, misc/imutils.py, crf_inference_label (Ahn, Cho & Kwak 2019)
    "irn": CrfSettings(3, 3, 50, 5, 10, 10, gt_prob=0.7),
    # jiwoon-ahn/psa, tool/imutils.py, crf_inference (Ahn & Kwak 2018)
    "psa": CrfSettings(3, 3, 80, 13, 10, 10),
    # kazuto1011/deeplab-pytorch, configs/voc12.yaml (Chen et al. 2018)
    "deeplab": CrfSettings(1, 3, 67, 3, 4, 10),
    # rulixiang/ToCo, tools/infer_seg_voc.py (Ru et al. 2023)
    "toco": CrfSettings(1, 1, 121, 5, 4, 10),
    # linyq2117/CLIP-ES, eval_cam_with_crf.py (Lin et al. 2023): the values of deeplab. The original subtracts the mean
    # of the image before a cast to uint8, which turns dark pixels into bright ones; here the image is not changed.
    "clip_es": CrfSettings(1, 3, 67, 3, 4, 10),
}


def score_unary(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the unary -log p of scores (C, H, W)."""
    unary: NDArray[np.float32] = -np.log(np.maximum(scores, np.float32(_TINY)), dtype=np.float32)
    return unary


def best_labels(scores: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the (H, W) argmax over the labels of scores (C, H, W); several times faster than `numpy.argmax`."""
    labels, highest = np.zeros(scores.shape[1:], np.uint16), scores[0].copy()
    for label in range(1, len(scores)):
        labels[scores[label] > highest] = label
        np.maximum(highest, scores[label], out=highest)
    return labels


def label_unary(labels: NDArray[np.integer], count: int, gt_prob: float) -> NDArray[np.float32]:
    """Return the unary (count, H, W) of hard labels: -log of `gt_prob` for the label, of equal shares for the others.

    Raises:
        StageError: a label is not in 0..count - 1.
    """
    for label in (int(labels.max(initial=0)), int(labels.min(initial=0))):
        if not 0 <= label < count:
            raise StageError(f"CRF: found label {label}; expected: 0 to {count - 1}")
    if count == 1:
        return np.zeros((1, *labels.shape), dtype=np.float32)
    agree, differ = np.float32(-np.log(gt_prob)), np.float32(-np.log((1 - gt_prob) / (count - 1)))
    return np.stack([np.where(labels == label, agree, differ) for label in range(count)])
