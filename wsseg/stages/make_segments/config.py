"""Config of `make_segments`: the table ``[segments]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting
from wsseg.models.foundation.checkpoint import Checkpoint
from wsseg.models.foundation.prompts import Prompts


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[segments]``.

    Args:
        method: ``felzenszwalb`` (superpixels of scikit-image, without a network), ``sam`` (the masks of SAM or SAM 2 at a grid
            of points), ``sam_points`` (their masks at the maxima of the recipe's ``seeds``) or ``sam3`` (the masks of SAM 3 for
            the names of the classes present).
        size: largest long side in pixels of the segments; larger images are divided at this size, smaller ones at their own.
        scale: ``felzenszwalb``: a higher value gives larger superpixels.
        sigma: ``felzenszwalb``: standard deviation of the Gaussian that smooths the image first, in pixels.
        min_size: ``felzenszwalb``: number of pixels of the smallest superpixel.
        sam: checkpoint of the other methods, a table; see `wsseg.models.foundation.checkpoint`.
        prompts: ``sam3``: texts, a table whose ``names`` are used; see `wsseg.models.foundation.prompts`.
        points_per_side: ``sam``: points per row and column of the grid.
        min_iou: ``sam``: lowest IoU that the network predicts for a mask.
        min_stability: ``sam``: lowest IoU of a mask at two limits of its logits.
        max_overlap: ``sam``: of masks whose boxes have a higher IoU, the most confident one is kept.
        min_confidence: ``sam3``: lowest confidence of a mask.
        batch_size: number of images of equal size per pass of the image encoder; lower it if memory runs out.
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
        workers: processes for superpixels; 0 means one per core.
    """

    method: Literal["felzenszwalb", "sam", "sam_points", "sam3"] = setting("felzenszwalb")
    size: int = setting(640, low=32, high=8192)
    scale: float = setting(100.0, low=0.0, high=100_000.0)
    sigma: float = setting(0.5, low=0.0, high=100.0)
    min_size: int = setting(20, low=1, high=1_000_000)
    sam: Checkpoint | None = setting(None)
    prompts: Prompts | None = setting(None)
    points_per_side: int = setting(32, low=1, high=256)
    min_iou: float = setting(0.88, low=0.0, high=1.0)
    min_stability: float = setting(0.95, low=0.0, high=1.0)
    max_overlap: float = setting(0.7, low=0.0, high=1.0)
    min_confidence: float = setting(0.5, low=0.0, high=1.0)
    batch_size: int = setting(4, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    workers: int = setting(0, low=0, high=1024, execution=True)


@dataclass(frozen=True)
class SamSegments(Config):
    """Values of the config table ``[sam_segments]``, with which a recipe asks for the segments of SAM.

    The values are those of `Config`, with ``sam`` as the default of `method`.
    """

    method: Literal["felzenszwalb", "sam", "sam_points", "sam3"] = setting("sam")
