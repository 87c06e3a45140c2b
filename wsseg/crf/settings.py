"""What a dense CRF is made of: kernels, compatibilities, unaries, and the presets that papers published."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import StageError

Compatibility = float | NDArray[np.float32]
Preset = Literal["irn", "psa", "deeplab", "toco", "clip_es"]
Normalization = Literal["symmetric", "before", "after", "none"]
_TINY = 1e-5  # smallest probability whose logarithm is taken, as in pydensecrf.utils


@dataclass(frozen=True, eq=False)
class CrfSettings:
    """Values of the dense CRF.

    Args:
        gaussian_sxy: standard deviation of the Gaussian kernel in pixels.
        gaussian_compat: its Potts weight, or a (C, C) matrix of costs, entry (i, j) for label i beside label j.
        bilateral_sxy: standard deviation of the bilateral kernel in pixels.
        bilateral_srgb: the same in colour, on 0..255.
        bilateral_compat: its Potts weight or (C, C) costs.
        iterations: of the mean field.
        gt_prob: how sure a pixel's label is, where the unary is taken from labels (argmax of the scores); None takes
            the unary from the scores themselves.
        normalization: where a kernel K is divided by its sum over the image: ``symmetric`` by its root on both sides,
            ``before`` on the sender's, ``after`` on the receiver's side, ``none``.
    """

    gaussian_sxy: float
    gaussian_compat: Compatibility
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: Compatibility
    iterations: int
    gt_prob: float | None = None
    normalization: Normalization = "symmetric"

    def __post_init__(self) -> None:
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            if not getattr(self, name) > 0:
                raise StageError(f"CRF: {name}: found {getattr(self, name)}; expected: more than 0")
        if self.iterations < 0:
            raise StageError(f"CRF: iterations: found {self.iterations}; expected: 0 or more")
        if self.gt_prob is not None and not 0 < self.gt_prob < 1:
            raise StageError(f"CRF: gt_prob: found {self.gt_prob}; expected: between 0 and 1")
        if self.normalization not in ("symmetric", "before", "after", "none"):
            raise StageError(
                f"CRF: normalization: found {self.normalization!r}; expected: symmetric, before, after, none"
            )

    @property
    def is_potts(self) -> bool:
        """Whether both compatibilities are single weights."""
        return np.ndim(self.gaussian_compat) == 0 and np.ndim(self.bilateral_compat) == 0


PRESETS: dict[str, CrfSettings] = {
    # jiwoon-ahn/irn, misc/imutils.py, crf_inference_label (Ahn, Cho & Kwak 2019)
    "irn": CrfSettings(3, 3, 50, 5, 10, 10, gt_prob=0.7),
    # jiwoon-ahn/psa, tool/imutils.py, crf_inference (Ahn & Kwak 2018)
    "psa": CrfSettings(3, 3, 80, 13, 10, 10),
    # kazuto1011/deeplab-pytorch, configs/voc12.yaml (Chen et al. 2018)
    "deeplab": CrfSettings(1, 3, 67, 3, 4, 10),
    # rulixiang/ToCo, tools/infer_seg_voc.py (Ru et al. 2023)
    "toco": CrfSettings(1, 1, 121, 5, 4, 10),
    # linyq2117/CLIP-ES, eval_cam_with_crf.py (Lin et al. 2023): deeplab's values. There, the image's mean is taken out
    # before a cast to uint8, which wraps dark pixels around to bright ones; here the image stays as it is.
    "clip_es": CrfSettings(1, 3, 67, 3, 4, 10),
}


def score_unary(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the unary -log p of scores (C, H, W)."""
    unary: NDArray[np.float32] = -np.log(np.maximum(scores, np.float32(_TINY)), dtype=np.float32)
    return unary


def best_labels(scores: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the (H, W) argmax over the labels of scores (C, H, W), plane by plane (several times faster)."""
    labels, highest = np.zeros(scores.shape[1:], np.uint16), scores[0].copy()
    for label in range(1, len(scores)):
        labels[scores[label] > highest] = label
        np.maximum(highest, scores[label], out=highest)
    return labels


def label_unary(labels: NDArray[np.integer], count: int, gt_prob: float) -> NDArray[np.float32]:
    """Return the unary (count, H, W) of hard labels: -log gt_prob at the label, the rest shared by the others.

    Raises:
        StageError: a label is not in 0 .. count - 1.
    """
    for found in (int(labels.max(initial=0)), int(labels.min(initial=0))):
        if not 0 <= found < count:
            raise StageError(f"CRF: found label {found}; expected: 0 to {count - 1}")
    if count == 1:
        return np.zeros((1, *labels.shape), dtype=np.float32)
    agree, other = np.float32(-np.log(gt_prob)), np.float32(-np.log((1 - gt_prob) / (count - 1)))
    return np.stack([np.where(labels == label, agree, other) for label in range(count)])


def costs(compat: Compatibility, labels: int) -> NDArray[np.float32]:
    """Return (C, C) symmetric costs; a Potts weight w is what likeness saves: -w on the diagonal."""
    if isinstance(compat, np.ndarray):
        symmetric: NDArray[np.float32] = ((compat + compat.T) / 2).astype(np.float32)
        return symmetric
    return -np.float32(compat) * np.eye(labels, dtype=np.float32)
