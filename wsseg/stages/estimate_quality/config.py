"""Config of `estimate_quality`: the table ``[quality_estimate]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[quality_estimate]``.

    Args:
        images: number of images that the estimate reads, evenly spaced over the split; 0 means all.
        batch_size: number of images of equal size per forward pass; lower it if memory runs out.
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
    """

    images: int = setting(100, low=0)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
