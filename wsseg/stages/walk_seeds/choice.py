"""Whether seeds should walk, decided without truth: by whether what was sure before is still told apart afterwards.

A walk fills large things up to their borders, and lets thin or pale ones run out into the background. Pixels that were sure
before it, thing or background (what the affinities were learnt from), tell which: in a map that ran out, sure pixels of the
thing no longer stand above those of the background.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from wsseg.data.sampling import evenly_spaced
from wsseg.labels import BACKGROUND
from wsseg.types import LabeledImage, Mask

SAMPLE = 96  # images that the choice is made on
LOWEST = 0.97  # of the pairs of a sure pixel of a thing and one of the background that walked maps must rank right


def sample_of(items: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return at most 96 evenly spaced images among those with a class."""
    return evenly_spaced([item for item in items if item.class_ids], SAMPLE)


def ranked_right(values: NDArray[np.float32], sure: Mask, class_id: int) -> float | None:
    """Return how often a map is higher at a sure pixel of its class than at one of the background, ties half; in [0, 1].

    The area under the ROC curve (Mann-Whitney). None where the mask is not sure of both.

    Args:
        values: (H, W) the class's map.
        sure: (H, W) class ids and 255.
        class_id: the class.
    """
    inside, outside = values[sure == class_id], values[sure == BACKGROUND]
    if not len(inside) or not len(outside):
        return None
    ranks = rankdata(np.concatenate([inside, outside]))
    wins = ranks[: len(inside)].sum() - len(inside) * (len(inside) + 1) / 2
    return float(wins / (len(inside) * len(outside)))


def serves(found: Mapping[int, Sequence[float]]) -> bool:
    """Return whether walked maps rank 97 % right, in the mean over images and then over classes; not where none was sure.

    All classes walk or none: a walked map's values stand for other things than a seed's, and cannot be compared with them.

    Args:
        found: what `ranked_right` gave, by class id.
    """
    means = [np.mean(shares) for shares in found.values() if shares]
    return bool(means) and float(np.mean(means)) >= LOWEST
