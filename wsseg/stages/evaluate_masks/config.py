"""Values of `evaluate_masks`: the config table ``[evaluation]``."""

from dataclasses import dataclass

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[evaluation]``.

    Args:
        boundary: compute boundary IoU as well; it takes about as long as all other metrics together.
        workers: threads; 0 means one per core.
    """

    boundary: bool = setting(True)
    workers: int = setting(0, low=0, high=1024, execution=True)
