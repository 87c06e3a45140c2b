"""From evidence to an estimated IoU with an interval, for each class and for the mean."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Evidence = Mapping[str, NDArray[np.float64]]
"""An IoU by class id, (K + 1,), of each kind of `evidence.EVIDENCE`; NaN if it is not known."""

Estimate = tuple[float, float, float]
"""IoU, and the lower and the upper end of its interval, all in [0, 1]."""

# How much the true IoU differs from each kind of evidence, in log odds, and the error (root mean square, in log odds) of the
# estimate on a data set on which these values were not fitted (scripts/measure_estimates.py; docs/howto/quality.md has the cases).
# The other kinds of evidence are recorded only: `labels` is 1 almost everywhere, `fit` and `first` were measured too little.
CORRECTIONS: Mapping[str, float] = {"expected": -0.65, "flip": -1.46, "scale": -0.95, "rounds": -1.19}
ERROR = 1.71
_QUANTILE = 1.2816  # of a normal distribution: 80 % of it lie within so many standard deviations
_SUREST = 0.995  # agreements above count as this one, because the log odds of 1 are infinite


def log_odds(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of IoUs, which are limited to 0.5 .. 99.5 %."""
    limited = np.clip(iou, 1 - _SUREST, _SUREST)
    result: NDArray[np.float64] = np.log(limited / (1 - limited))
    return result


def centres(evidence: Evidence, corrections: Mapping[str, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation (K + 1,), in log odds, of what the kinds of evidence say about each class.

    Args:
        evidence: IoUs by class id.
        corrections: added to the log odds of each kind; kinds without a correction do not count.
    """
    corrected = np.stack([log_odds(evidence[kind]) + shift for kind, shift in corrections.items() if kind in evidence])
    known = ~np.isnan(corrected)
    count = known.sum(axis=0)
    values = np.where(known, corrected, 0.0)
    mean = np.where(count > 0, values.sum(axis=0) / np.maximum(count, 1), np.nan)
    squares = np.where(known, (corrected - mean) ** 2, 0.0)
    return mean, np.sqrt(squares.sum(axis=0) / np.maximum(count, 1))


def estimate_classes(
    evidence: Evidence, corrections: Mapping[str, float] = CORRECTIONS, error: float = ERROR
) -> list[Estimate | None]:
    """Return the estimate of each class; None without evidence.

    The estimate is the mean of the corrected log odds. The interval is 1.28 standard deviations to both sides (80 %, if errors
    were normal); its variance is the sum of the variance of the kinds of evidence and of the squared error seen on other sets.
    """
    mean, spread = centres(evidence, corrections)
    half = _QUANTILE * np.sqrt(spread**2 + error**2)
    ends = 1 / (1 + np.exp(-np.stack([mean, mean - half, mean + half])))
    return [None if np.isnan(iou) else (float(iou), float(low), float(high)) for iou, low, high in ends.T]


def estimate_mean(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Return the estimate of the mean IoU: the means of estimates and of both ends; None without any.

    The ends are averaged as if the errors of all classes had the same sign, because what deceives one class of a data set
    often deceives the others.
    """
    known = [estimate for estimate in estimates if estimate is not None]
    if not known:
        return None
    iou, low, high = np.mean(known, axis=0).tolist()
    return iou, low, high
