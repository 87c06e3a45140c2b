"""Whether a class's seeds should walk, decided without truth: by whether what was sure before is still told apart afterwards.

A walk fills large things up to their borders, and lets thin or pale ones run out into the background. Pixels that were sure
before it, thing or background (what the affinities were learnt from), tell which: in a map that ran out, sure pixels of the
thing no longer stand above those of the background.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from wsseg.labels import BACKGROUND
from wsseg.types import LabeledImage, Mask

SAMPLE = 96  # images that the choice is made on
LOWEST = 0.95  # of the pairs of a sure pixel of the thing and one of the background that a map must rank right


def sample_of(items: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Return 96 images with at least one class, evenly spaced; all, where there are no more."""
    labeled = [item for item in items if item.class_ids]
    if len(labeled) <= SAMPLE:
        return labeled
    return [labeled[len(labeled) * k // SAMPLE] for k in range(SAMPLE)]


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


def walking(found: Mapping[int, Sequence[float]]) -> set[int]:
    """Return the class ids whose walked maps rank 95 % right in the mean over images; one that was never sure walks not."""
    return {class_id for class_id, shares in found.items() if shares and np.mean(shares) >= LOWEST}
