"""Values of `relabel_masks`: the config table ``[relabeling]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import check_scales, setting
from wsseg.crf.settings import Preset


@dataclass(frozen=True)
class Config:
    """Args:
    scales: factors on the segmenter's training size that are averaged over.
    flip: also average over the mirrored image.
    crf: preset of the dense CRF, or ``off``.
    min_confidence: a pixel is 255 where the network gives its class, among those present, a lower probability.
    batch_size: images of one size that go through the network together.
    precision: autocast; ``auto`` is bfloat16 where the device computes in it.
    workers: processes for the CRF; 0 for one a core.
    """

    scales: tuple[float, ...] = setting((1.0, 1.5), low=0.1, high=8.0)
    flip: bool = setting(True)
    crf: Literal[Preset, "off"] = setting("off")
    min_confidence: float = setting(0.6, low=0.0, high=1.0)
    batch_size: int = setting(8, low=1, high=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", execution=True)
    workers: int = setting(0, low=0, high=1024, execution=True)

    def __post_init__(self) -> None:
        check_scales(self.scales)
