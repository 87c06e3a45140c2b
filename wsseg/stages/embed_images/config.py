"""Config of `embed_images`: the table ``[embeddings]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting
from wsseg.models.foundation.checkpoint import Checkpoint


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[embeddings]``.

    Args:
        model: checkpoint, a table; see `wsseg.models.foundation.checkpoint`. DINOv2 and DINOv3 give the cosines of their patch
            features, CLIP the attention of its last eight blocks.
        size: long side of the images in pixels; one embedding per patch (14 or 16 pixels).
        rank: numbers per embedding. Embeddings are projected to the directions that preserve their products best.
        batch_size: number of images of equal size per forward pass; lower it if memory runs out.
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
    """

    model: Checkpoint | None = setting(None)
    size: int = setting(512, low=32, high=8192)
    rank: int = setting(64, low=1, high=4096)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
