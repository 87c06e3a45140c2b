"""Config of `predict_masks`: the table ``[predictions]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import check_scales, setting
from wsseg.crf.settings import Preset


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[predictions]``.

    Args:
        scales: factors on the segmenter's training size; the scores are averaged over them.
        flip: average over the mirrored image as well.
        crf: preset of the dense CRF that refines the scores, ``chain`` for sequences (`wsseg.crf.chain`), or ``off``.
        crf_size: long side in px at which the CRF works on larger images; its result is enlarged. The kernels of the presets
            were made for 500 px. By default it works at the size of the image.
        min_class_probability: a class is removed from a prediction if the recipe's classifier gives it a lower probability for
            the image; 0 does not use the classifier.
        batch_size: number of images of equal size per forward pass; lower it if memory runs out.
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
    """

    scales: tuple[float, ...] = setting((1.0, 1.5), low=0.1, high=8.0)
    flip: bool = setting(True)
    crf: Literal[Preset, "chain", "off"] = setting("off")
    crf_size: int | None = setting(None, low=32, high=100_000)
    min_class_probability: float = setting(0.0, low=0.0, high=0.99)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)

    def __post_init__(self) -> None:
        check_scales(self.scales)
