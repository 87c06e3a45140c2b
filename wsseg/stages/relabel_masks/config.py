"""Config of `relabel_masks`: the table ``[relabeling]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import check_scales, setting
from wsseg.crf.settings import Preset


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[relabeling]``.

    Args:
        scales: factors on the segmenter's training size; the scores are averaged over them.
        flip: average over the mirrored image as well.
        crf: preset of the dense CRF that refines the scores, or ``off``.
        crf_size: long side in px at which the CRF works on larger images; its result is enlarged. The kernels of the presets
            were made for 500 px. By default it works at the size of the image.
        min_confidence: a pixel becomes 255 (undecided) if the network's probability of its class, among the background and the
            classes present, is lower; in [0, 1].
        batch_size: number of images of equal size per forward pass; lower it if memory runs out.
        precision: data type of autocast; ``auto`` is bfloat16 if the device computes in it natively, float16 on an older CUDA
            GPU, float32 otherwise.
        device: ``auto`` is the first accelerator, or the CPU if there is none; ``cpu``, ``cuda`` and ``mps`` require that device.
        workers: processes for the CRF; 0 means one per core.
    """

    scales: tuple[float, ...] = setting((1.0, 1.5), low=0.1, high=8.0)
    flip: bool = setting(True)
    crf: Literal[Preset, "off"] = setting("off")
    crf_size: int | None = setting(None, low=32, high=100_000)
    min_confidence: float = setting(0.6, low=0.0, high=1.0)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    workers: int = setting(0, low=0, high=1024, execution=True)

    def __post_init__(self) -> None:
        check_scales(self.scales)
