"""Config of `train_affinity`: the table ``[affinity]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import check_zoom, setting
from wsseg.stages.training_length import TrainingLength


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[affinity]``.

    Args:
        size: long side of the training images at zoom 1, in pixels.
        radius: largest distance of the pixel pairs that the loss compares, in boundary values (4 pixels each).
        epochs: passes over the training images.
        batch_size: images per step, over all processes.
        learning_rate: highest learning rate (linear warm-up over a tenth of the steps, then cosine to 0).
        weight_decay: weight decay of AdamW; norms and biases have none.
        scale: smallest and largest random zoom; at 1 the long side is `size` pixels.
        color_jitter: strength of the colour jitter, in [0, 1].
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        rng_seed: seed of the branch's first weights, the order of the images and their augmentation; defaults to the config's `rng_seed`.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
        compile: true compiles the network with torch.compile, which takes a minute at first; a part that cannot be compiled runs
            without. The last digits of the weights differ from those without it, which is the default.
        workers: processes that read and augment images; with 0 the training process reads them. By default 0 on a CPU, and
            one per core, at most 8, with an accelerator.
    """

    size: int = setting(320, low=32, high=4096)
    radius: int = setting(10, low=2, high=64)
    epochs: int = setting(3, low=1, high=10_000)
    batch_size: int = setting(16, low=1, high=4096)
    learning_rate: float = setting(5e-3, low=0.0, high=10.0)
    weight_decay: float = setting(1e-4, low=0.0, high=1.0)
    scale: tuple[float, ...] = setting((0.7, 1.5), low=0.1, high=10.0)
    color_jitter: float = setting(0.3, low=0.0, high=1.0)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    rng_seed: int = setting(0, low=0, high=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    compile: bool | None = setting(None)
    workers: int | None = setting(None, low=0, high=256, execution=True)

    def length(self, images: int) -> TrainingLength:
        """Return the length of the training on a number of images."""
        return TrainingLength(self.epochs, images)

    def __post_init__(self) -> None:
        check_zoom(self.scale)
