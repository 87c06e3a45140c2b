"""Values of `evaluate_masks`: the config table ``[evaluation]``."""

from dataclasses import dataclass

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Args:
    boundary: whether boundary IoU is computed too (it takes about as long as all the rest).
    workers: threads; 0 for one a core.
    """

    boundary: bool = setting(True)
    workers: int = setting(0, low=0, high=1024, execution=True)
