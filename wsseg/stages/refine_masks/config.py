"""Values of `refine_masks`: the config table ``[pseudo_masks]``."""

from dataclasses import dataclass
from typing import Literal

from wsseg.config import setting
from wsseg.crf.settings import Preset
from wsseg.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """Args:
    background: how the background's score is made: ``threshold`` takes `levels` as the score itself, ``power`` takes
        them as alpha in (1 - highest seed)^alpha.
    levels: one value: every pixel gets a class. Two values: a pixel is foreground where it is so at the stricter
        level, background where it is so at the laxer one, and 255 between. None (``[]``): the level with the tightest
        masks in which the classifier still sees the classes, found on 48 images without looking at any true mask.
    pamr_iterations: iterations of pixel-adaptive refinement (PAMR, without training) before the CRF; 0 for none, 10 in the paper.
    crf: preset of the dense CRF, or ``off``; ``auto`` takes the one whose masks are the tightest among those in which
        the classifier still sees the classes, on 48 images, without looking at any true mask.
    iterations: of the CRF; 0 keeps the preset's.
    exact: whether the CRF computes every update on every pixel; if not, it is two to three times faster, and the label
        of about one pixel in 300 differs.
    engine: what computes the CRF: ``numba`` (CPU), ``torch`` (the GPU, where there is one) or ``reference``
        (pydensecrf, to compare with); the last two are always exact.
    workers: processes; 0 for one a core.
    """

    background: Literal["threshold", "power"] = setting("threshold")
    levels: tuple[float, ...] = setting((0.25,), low=0.0, high=100.0)
    pamr_iterations: int = setting(0, low=0, high=1000)
    crf: Literal[Preset, "off", "auto"] = setting("irn")
    iterations: int = setting(0, low=0, high=1000)
    exact: bool = setting(False)
    engine: Literal["numba", "torch", "reference"] = setting("numba")
    workers: int = setting(0, low=0, high=1024, execution=True)

    def __post_init__(self) -> None:
        if len(self.levels) > 2:
            raise ConfigError(
                f"levels: found {len(self.levels)} values; expected: none (one is chosen), one, or two (strict and lax, any order)"
            )
        if self.background == "threshold" and not all(0 < level < 1 for level in self.levels):
            raise ConfigError(f"levels: found {list(self.levels)}; expected for a threshold: between 0 and 1")


@dataclass(frozen=True)
class AffinityLabels(Config):
    """Values of the pseudo-masks that affinities are learnt from, the config table ``[affinity_labels]``: sure, or 255.

    Args: as `Config`.
    """

    levels: tuple[float, ...] = setting((0.3, 0.05), low=0.0, high=100.0)

    def __post_init__(self) -> None:
        if not self.levels:
            raise ConfigError("levels: found []; expected here: two (strict and lax, any order), or one")
        super().__post_init__()


@dataclass(frozen=True)
class WalkedMasks(Config):
    """Values of the pseudo-masks that are made of walked seeds, the config table ``[walked_masks]``.

    Args: as `Config`.
    """
