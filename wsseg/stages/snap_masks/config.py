"""Config of `snap_masks`: the table ``[snapping]``."""

from dataclasses import dataclass

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[snapping]``.

    Args:
        min_inside: a segment joins a class if a larger fraction of it is inside the class's mask, in [0, 1].
        min_covered: a segment also joins a class if it contains at least this fraction of the class's mask, in [0, 1]. At 1, it
            must contain the whole mask. Raise it for small objects on large segments.
        workers: processes; 0 means one per core.
    """

    min_inside: float = setting(0.5, low=0.0, high=1.0)
    min_covered: float = setting(0.85, low=0.0, high=1.0)
    workers: int = setting(0, low=0, high=1024, execution=True)
