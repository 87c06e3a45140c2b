"""Values of `walk_seeds`: the config table ``[walk]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Args:
    when: ``always``; or ``auto``: if the pixels that were ``sure`` before are still told apart afterwards, on 96 images and
        without looking at any true mask (where the recipe names no sure masks: always).
    size: long side in pixels at which boundaries are read; one value for four pixels.
    radius: of a step, in boundary values.
    beta: power of the affinities; the higher, the less gets across a weak boundary.
    steps: of the walk.
    boundary_prior: the image's frame walks as well, and what it reaches is background.
    batch_size: images of one size that go through the network together.
    precision: autocast; ``auto`` is bfloat16 where the device computes in it.
    workers: processes; 0 for one a core.
    """

    when: Literal["always", "auto"] = setting("auto")
    size: int = setting(480, low=32, high=8192)
    radius: int = setting(5, low=2, high=64)
    beta: float = setting(10.0, low=0.0, high=100.0)
    steps: int = setting(256, low=0, high=100_000)
    boundary_prior: bool = setting(True)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    workers: int = setting(0, low=0, high=1024, execution=True)
