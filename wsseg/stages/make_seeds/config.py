"""Values of `make_seeds`: the config table ``[seeds]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Args:
    size: long side in pixels that an image has at scale 1.
    output_stride: input pixels per value of the class maps; less than 32 makes them finer by dilation.
    scales: factors on `size` that are averaged over.
    flip: also average over the mirrored image.
    batch_size: images of one size that go through the network together.
    precision: autocast; ``auto`` is bfloat16 where the device computes in it.
    """

    size: int = setting(320, low=32, high=8192)
    output_stride: Literal[8, 16, 32] = setting(32)
    scales: tuple[float, ...] = setting((0.5, 1.0, 1.5), low=0.1, high=8.0)
    flip: bool = setting(True)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
