"""Config of `snap_masks`: the table ``[snapping]``."""

from dataclasses import dataclass

from wsseg.config import setting


@dataclass(frozen=True)
class Config:
    """Values of the config table ``[snapping]``.

    Args:
        min_inside: a segment joins a class if a larger fraction of it is inside the class's mask, in [0, 1].
        min_covered: a segment also joins a class if it contains a larger fraction of the class's mask, in [0, 1]. 1 turns this
            rule off: a superpixel that contains a small object is mostly background.
        workers: processes; 0 means one per core.
    """

    min_inside: float = setting(0.5, low=0.0, high=1.0)
    min_covered: float = setting(1.0, low=0.0, high=1.0)
    workers: int = setting(0, low=0, high=1024, execution=True)


@dataclass(frozen=True)
class SamSnapping(Config):
    """Values of the config table ``[sam_snapping]``, with which a recipe snaps masks onto the segments of SAM.

    The values are those of `Config`, with 0.85 as the default of `min_covered`: SAM's segments are objects and their parts.
    """

    min_covered: float = setting(0.85, low=0.0, high=1.0)
