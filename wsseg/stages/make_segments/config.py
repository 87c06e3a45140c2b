"""Config of `make_segments`: the table ``[segments]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[segments]``.

    Args:
        method: ``felzenszwalb`` (superpixels of scikit-image, without a network).
        size: largest long side in pixels of the images that are divided; larger images are scaled to it, smaller ones are not.
        scale: ``felzenszwalb``: a higher value gives larger superpixels.
        sigma: ``felzenszwalb``: standard deviation of the Gaussian that smooths the image first, in pixels.
        min_size: ``felzenszwalb``: number of pixels of the smallest superpixel.
        workers: processes; 0 means one per core.
    """

    method: Literal["felzenszwalb"] = setting("felzenszwalb")
    size: int = setting(640, low=32, high=8192)
    scale: float = setting(100.0, low=0.0, high=100_000.0)
    sigma: float = setting(0.8, low=0.0, high=100.0)
    min_size: int = setting(50, low=1, high=1_000_000)
    workers: int = setting(0, low=0, high=1024, execution=True)
