"""Choice between walked seeds and the original ones, without true masks.

A random walk fills large objects up to their borders, but the maps of thin or pale objects leak into the background. The sure
pixels from before the walk, from which the affinities were learned, show which happened: in a map that leaked, pixels that
surely belong to the object are no longer ranked above those that surely belong to the background.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from wsseg.data.sampling import evenly_spaced
from wsseg.labels import BACKGROUND
from wsseg.types import LabeledImage, Mask

SAMPLE = 96  # number of images for the choice
LOWEST = (
    0.97  # lowest fraction of (sure object pixel, sure background pixel) pairs that walked maps must rank correctly
)


def sample_of(items: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return at most 96 evenly spaced images among those with a class."""
    return evenly_spaced([item for item in items if item.class_ids], SAMPLE)


def ranked_right(values: NDArray[np.float32], sure: Mask, class_id: int) -> float | None:
    """Return how often a map is higher at a sure pixel of its class than at one of the background, in [0, 1].

    This is the area under the ROC curve (Mann-Whitney); ties count half. None if the mask has no sure pixel of one of the two.

    Args:
        values: (H, W) map of the class.
        sure: (H, W) class ids, and 255 for pixels that are not sure.
        class_id: the class.
    """
    inside, outside = values[sure == class_id], values[sure == BACKGROUND]
    if not len(inside) or not len(outside):
        return None
    ranks = rankdata(np.concatenate([inside, outside]))
    wins = ranks[: len(inside)].sum() - len(inside) * (len(inside) + 1) / 2
    return float(wins / (len(inside) * len(outside)))


def walk_helps(shares_by_class: Mapping[int, Sequence[float]]) -> bool:
    """Return whether walked maps rank 97 % of the pairs correctly, averaged over images and then over classes.

    False if no class has sure pixels. The choice is made for all classes together, because the values of walked maps and of
    seeds cannot be compared.

    Args:
        shares_by_class: results of `ranked_right` by class id.
    """
    means = [np.mean(shares) for shares in shares_by_class.values() if shares]
    return bool(means) and float(np.mean(means)) >= LOWEST
