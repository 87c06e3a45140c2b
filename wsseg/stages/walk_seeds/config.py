"""Config of `walk_seeds`: the table ``[walk]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[walk]``.

    Args:
        when: ``always``, or ``auto``: on 96 images and without true masks, check whether walked seeds still rank the pixels of
            the recipe's ``sure`` masks correctly; if not, the seeds are kept as they are. ``auto`` means ``always`` if the
            recipe has no ``sure`` input.
        size: long side in pixels of the images that boundaries are predicted from; one boundary value per 4 x 4 pixels.
        radius: largest distance of one step, in boundary values.
        beta: power of the affinities; a higher value lets less pass a weak boundary.
        steps: number of steps of the walk; 0 only removes the seeds' evidence on boundaries.
        boundary_prior: walk from the frame of the image as well, and remove what that walk reaches from the seeds as background.
            Turn it off if objects often touch the frame, or to follow IRNet as published.
        batch_size: number of images of equal size per forward pass; lower it if memory runs out.
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
        workers: processes; 0 means one per core.
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
