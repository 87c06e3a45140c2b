"""Config of `refine_masks`: the table ``[pseudo_masks]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting
from wsseg.crf.settings import Preset
from wsseg.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[pseudo_masks]``.

    Args:
        background: score of the background: ``threshold`` uses each of the `levels` as the score itself, in (0, 1);
            ``power`` uses it as alpha in (1 - highest seed)^alpha.
        levels: background levels. One value labels every pixel. With two values a pixel is foreground if it is foreground at
            the stricter level, background if it is background at the laxer level, and 255 (undecided) otherwise. An empty
            list chooses the level (and, with ``crf = "auto"``, the preset with it): of those that keep the classifier's score of
            the classes, the one with the smallest masks, measured on 48 images without true masks.
        pamr_iterations: iterations of pixel-adaptive mask refinement (PAMR) before the CRF; 0 for none, 10 in the paper.
        crf: preset of the dense CRF, or ``off``; ``chain`` is the CRF of sequences (`wsseg.crf.chain`); ``auto`` chooses between ``off`` and four presets as an empty list of
            `levels` does. Use ``off`` or ``auto`` if objects are thin or differ little from the background in colour.
        crf_size: long side in px at which the CRF works on larger images; its result is enlarged. The kernels of the presets
            were made for 500 px. By default it works at the size of the image.
        iterations: mean-field iterations of the CRF; 0 means the preset's number.
        exact: compute every update of the CRF on every pixel. The default is two to three times faster and labels about one
            pixel in 300 differently.
        engine: implementation of the CRF: ``numba`` (CPU), ``torch`` (GPU if there is one) or ``reference`` (pydensecrf, for
            comparison); the last two are always exact.
        workers: processes; 0 means one per core.
    """

    background: Literal["threshold", "power"] = setting("threshold")
    levels: tuple[float, ...] = setting((), low=0.0, high=100.0)
    pamr_iterations: int = setting(0, low=0, high=1000)
    crf: Literal[Preset, "chain", "off", "auto"] = setting("auto")
    crf_size: int | None = setting(None, low=32, high=100_000)
    iterations: int = setting(0, low=0, high=1000)
    exact: bool = setting(False)
    engine: Literal["numba", "torch", "reference"] = setting("numba")
    workers: int = setting(0, low=0, high=1024, execution=True)

    def __post_init__(self) -> None:
        if len(self.levels) > 2:
            raise ConfigError(
                f"levels: found {len(self.levels)} values; expected: none (a level is chosen), one, or two (in any order)"
            )
        if self.background == "threshold" and not all(0 < level < 1 for level in self.levels):
            raise ConfigError(
                f'levels: found {list(self.levels)}; expected with background = "threshold": between 0 and 1'
            )


@dataclass(frozen=True)
class AffinityLabels(Config):
    """Values of the config table ``[affinity_labels]``: the pseudo-masks that affinities are learned from.

    The values are those of `Config`, with other defaults: pixels that the two levels label differently become 255.
    """

    levels: tuple[float, ...] = setting((0.3, 0.05), low=0.0, high=100.0)
    crf: Literal[Preset, "off", "auto"] = setting("irn")

    def __post_init__(self) -> None:
        if not self.levels:
            raise ConfigError("levels: found []; expected in this table: two values (in any order), or one")
        super().__post_init__()


@dataclass(frozen=True)
class WalkedMasks(Config):
    """Values of the config table ``[walked_masks]``: the pseudo-masks that are made from walked seeds.

    The values are those of `Config`.
    """
