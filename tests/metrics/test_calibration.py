import numpy as np
import pytest

from wsseg.metrics.calibration import calibration_error, cross_fitted, fit_temperature, ranges, scaled


def counts(**pixels: tuple[int, int]) -> np.ndarray:
    """Return counts of (all, correct) pixels; ``p90`` is a confidence of 90 %."""
    result = np.zeros((101, 2), np.int64)
    for name, value in pixels.items():
        result[int(name[1:])] = value
    return result


def test_scaled_by_hand():
    """Odds of 9 under the temperature 2 are odds of 3."""
    assert scaled(np.array([0.9, 0.5, 0.1]), 2.0) == pytest.approx([0.75, 0.5, 0.25])


def test_temperature_one_changes_nothing():
    confidence = np.array([0.0, 0.3, 1.0])
    assert scaled(confidence, 1.0).tolist() == [0.0, 0.3, 1.0]


def test_fitted_temperature_makes_the_confidence_correct():
    """Confidence 90 %, three of four pixels correct: the temperature is 2."""
    assert fit_temperature(counts(p90=(400, 300))) == pytest.approx(2.0, abs=1e-3)


def test_a_network_that_is_too_modest_gets_a_temperature_below_one():
    assert fit_temperature(counts(p60=(100, 90))) < 1


@pytest.mark.parametrize("pixels", [{}, {"p100": (50, 50)}, {"p100": (50, 0)}, {"p0": (5, 0)}])
def test_extreme_counts_have_a_finite_temperature(pixels):
    assert 0.1 <= fit_temperature(counts(**pixels)) <= 10


def test_ranges_keep_pixels_and_limits():
    """5 % belongs to the first of 20 ranges, 6 % to the second."""
    result = ranges([(counts(p0=(1, 0), p5=(1, 1), p6=(2, 1), p100=(4, 4)), 1.0)])
    assert result == [(pytest.approx(0.025), 0.5, 2), (pytest.approx(0.06), 0.5, 2), (1.0, 1.0, 4)]


def test_calibration_error_by_hand():
    assert calibration_error([(0.6, 0.0, 1), (0.9, 1.0, 2)]) == pytest.approx((0.6 + 0.1 * 2) / 3)


def test_halves_are_judged_with_the_temperature_of_the_other_half():
    """A temperature that was fitted on the judged half itself would leave no error at all."""
    halves = np.stack([counts(p90=(400, 300)), counts(p90=(400, 240))])
    after = cross_fitted(halves)
    assert after is not None
    # the first half, 75 % correct, gets the second one's temperature, under which 90 % becomes 60 %; and the other way round
    assert calibration_error(after) == pytest.approx(0.15, abs=1e-3)


def test_a_single_image_cannot_be_cross_fitted():
    assert cross_fitted(np.stack([counts(p90=(4, 3)), counts()])) is None
