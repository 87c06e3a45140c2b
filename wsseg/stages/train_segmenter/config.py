"""Values of `train_segmenter`: the config table ``[segmenter]``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsseg.config import check_zoom, setting
from wsseg.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """Args:
    architecture: of segmentation-models-pytorch, such as ``deeplabv3plus``, ``unet``, ``fpn``.
    encoder: one of its encoders; timm's are called ``tu-<name>``.
    decoder: further whole-number options of the architecture, by segmentation-models-pytorch's own names.
    weights: what the encoder starts from: the recipe's ``classifier``, or ImageNet weights from ``package`` or
        ``hub``, a ``file``, or ``none``.
    frozen_levels: how many of the encoder's feature levels (strides 2, 4, 8 ...) keep their weights.
    weights_file: a .safetensors, .pth, .pt or .bin file, for ``file``.
    size: height and width of the training crops, in pixels; predictions scale the long side to it.
    epochs: passes over the training images.
    batch_size: images a step.
    learning_rate: of the encoder, at its highest.
    head_lr_multiplier: how much faster the decoder learns.
    weight_decay: AdamW's.
    schedule: of the learning rate.
    loss: on each pixel: ``cross_entropy``, or ``symmetric`` or ``bootstrapped``, which trust a mask less.
    absent_class_weight: weight of the loss on classes that the image-level labels deny, on all pixels; 0 for none.
    ema_decay: share that a moving average of the network keeps at each step, 0 for none. The average weighs pixels by how far
        it agrees, labels those that are 255, teaches through mixed images, and is what is kept.
    stop_below_change: where no more than this fraction of the masks' pixels changed in a round, the recipe's ``previous`` network
        stands and nothing is trained.
    scale: smallest and largest random zoom.
    color_jitter: strength of colour jitter.
    precision: autocast; ``auto`` is bfloat16 where the device computes in it.
    rng_seed: source of randomness.
    """

    architecture: str = setting("fpn")
    encoder: str = setting("tu-tf_efficientnet_lite0")
    decoder: dict[str, int] = setting(
        {"decoder_pyramid_channels": 128, "decoder_segmentation_channels": 64}, low=1, high=4096
    )
    frozen_levels: int = setting(2, low=0, high=5)
    weights: Literal["classifier", "package", "hub", "file", "none"] = setting("classifier")
    weights_file: Path | None = setting(None)
    size: int = setting(320, low=32, high=4096)
    epochs: int = setting(10, low=1, high=10_000)
    batch_size: int = setting(16, low=1, high=4096)
    learning_rate: float = setting(3e-4, low=0.0, high=10.0)
    head_lr_multiplier: float = setting(5.0, low=0.0, high=1000.0)
    weight_decay: float = setting(0.01, low=0.0, high=1.0)
    schedule: Literal["one_cycle", "poly"] = setting("one_cycle")
    loss: Literal["cross_entropy", "symmetric", "bootstrapped"] = setting("cross_entropy")
    absent_class_weight: float = setting(0.0, low=0.0, high=1000.0)
    ema_decay: float = setting(0.0, low=0.0, high=0.9999)
    stop_below_change: float = setting(0.01, low=0.0, high=1.0)
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
