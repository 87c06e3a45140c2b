"""Calibration of confidences: expected calibration error and temperature scaling (Guo et al. 2017).

Confidences are counted in whole percent: `counts` is (101, 2) int64, the pixels with each confidence, and how many of them
are correct.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

_RANGES = 20
_HIGHEST = 0.9975  # middle of the probabilities that are 100 when rounded to whole percent
_LARGEST_LOG = np.log(10.0)  # temperatures are in [0.1, 10]
_PERCENT = np.arange(101) / 100

Ranges = list[tuple[float, float, int]]
"""(mean confidence, fraction correct, pixels) of each range of confidence that occurs."""


def scaled(confidence: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """Return confidences whose log odds are divided by a temperature.

    This is Guo et al.'s temperature scaling of the softmax (equation 9) if one other class holds the rest of the probability,
    as it mostly does for pixels. It needs the winning probability only, and never changes the predicted class.

    Args:
        confidence: probabilities of the predicted class, in [0, 1]; they are limited to 0.25 .. 99.75 %.
        temperature: above 1 lowers confidences of more than 0.5; 1 returns them as they are.
    """
    if temperature == 1:
        return confidence
    limited = np.clip(confidence, 1 - _HIGHEST, _HIGHEST)
    result: NDArray[np.floating] = 1 / (1 + ((1 - limited) / limited) ** (1 / temperature))
    return result


def fit_temperature(counts: NDArray[np.int64]) -> float:
    """Return the temperature in [0.1, 10] with the highest likelihood of the correct and wrong pixels; 1 without pixels."""
    correct, wrong = counts[:, 1], counts[:, 0] - counts[:, 1]
    if not counts.any():
        return 1.0

    def loss(log_temperature: float) -> float:
        probability = scaled(_PERCENT, float(np.exp(log_temperature)))
        probability = np.clip(probability, 1e-12, 1 - 1e-12)
        return -float((correct * np.log(probability) + wrong * np.log(1 - probability)).sum() / counts[:, 0].sum())

    best = minimize_scalar(loss, bounds=(-_LARGEST_LOG, _LARGEST_LOG), method="bounded")
    return float(np.exp(best.x))


def ranges(parts: Sequence[tuple[NDArray[np.int64], float]]) -> Ranges:
    """Return the ranges of confidence of several groups of pixels together, each scaled with a temperature.

    Args:
        parts: (counts, temperature) of each group.
    """
    confidence = np.concatenate([scaled(_PERCENT, temperature) for _, temperature in parts])
    pixels, correct = np.concatenate([counts for counts, _ in parts]).T
    place = np.clip(np.ceil(np.round(confidence * _RANGES, 6)) - 1, 0, _RANGES - 1).astype(int)
    result = []
    for index in range(_RANGES):
        inside = place == index
        if total := int(pixels[inside].sum()):
            mean = float((pixels * confidence)[inside].sum() / total)
            result.append((mean, float(correct[inside].sum() / total), total))
    return result


def calibration_error(calibration: Ranges) -> float:
    """Return the expected calibration error (Guo et al. 2017): mean |confidence - fraction correct|, weighted by pixels."""
    total = sum(pixels for _, _, pixels in calibration)
    return sum(abs(confidence - correct) * pixels for confidence, correct, pixels in calibration) / total


def cross_fitted(halves: NDArray[np.int64]) -> Ranges | None:
    """Return the ranges of two halves of the images, each scaled with the temperature of the other one.

    Args:
        halves: (2, 101, 2) counts.

    Returns:
        None if a half has no pixel.
    """
    if not all(half.any() for half in halves):
        return None
    return ranges([(halves[0], fit_temperature(halves[1])), (halves[1], fit_temperature(halves[0]))])
