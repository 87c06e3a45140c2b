"""Values of `train_affinity`: the config table ``[affinity]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import check_zoom, setting


@dataclass(frozen=True)
class Config:
    """Args:
    size: height and width of the training crops, in pixels.
    radius: how far apart the pairs that it learns from are at the most, in boundary values (4 pixels each).
    epochs: passes over the training images.
    batch_size: images a step.
    learning_rate: at its highest.
    weight_decay: AdamW's.
    scale: smallest and largest random zoom.
    color_jitter: strength of colour jitter.
    precision: autocast; ``auto`` is bfloat16 where the device computes in it.
    rng_seed: source of randomness.
    """

    size: int = setting(320, low=32, high=4096)
    radius: int = setting(10, low=2, high=64)
    epochs: int = setting(3, low=1, high=10_000)
    batch_size: int = setting(16, low=1, high=4096)
    learning_rate: float = setting(5e-3, low=0.0, high=10.0)
    weight_decay: float = setting(1e-4, low=0.0, high=1.0)
    scale: tuple[float, ...] = setting((0.7, 1.5), low=0.1, high=10.0)
    color_jitter: float = setting(0.3, low=0.0, high=1.0)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    rng_seed: int = setting(0, low=0, high=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    workers: int = setting(0, low=0, high=256, execution=True)

    def __post_init__(self) -> None:
        check_zoom(self.scale)
