"""Values of `measure_classifier`: the config table ``[classifier_quality]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Args:
    batch_size: images of one size that go through the network together.
    precision: autocast; ``auto`` is bfloat16 if the device computes in it.
    """

    batch_size: int = setting(16, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
