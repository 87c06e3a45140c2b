"""Evaluation of masks: metrics, undecided pixels and calibration, by hand."""

import numpy as np
import pytest

from wsseg.errors import StageError
from wsseg.labels import ClassMap
from wsseg.stages.evaluate_masks.masks import MaskJudge

CLASSES = ClassMap(("cat", "dog"))


TRUTH = np.array([[0, 0, 1, 1]], dtype=np.uint8)


def test_metrics_are_computed_from_one_matrix_over_all_images():
    judge = MaskJudge(CLASSES, boundary=False, undecided=False)
    judge.add(judge.count("a", TRUTH, np.array([[0, 0, 1, 0]], dtype=np.uint8)))
    judge.add(judge.count("b", np.zeros_like(TRUTH), np.zeros_like(TRUTH)))
    metrics = judge.metrics()
    # background 6 hits of 7, cat 1 of 2; the mean of two per-image means would differ
    assert metrics["iou"] == {"background": 6 / 7, "cat": 0.5, "dog": None}
    assert metrics["miou"] == pytest.approx((6 / 7 + 0.5) / 2)
    assert metrics["classes_counted"] == 2 and metrics["images"] == 2


def test_255_is_a_miss_in_pseudo_masks_and_refused_in_predictions():
    mask = np.array([[0, 255, 1, 1]], dtype=np.uint8)
    judge = MaskJudge(CLASSES, boundary=True, undecided=True)
    judge.add(judge.count("a", TRUTH, mask))
    metrics = judge.metrics()
    assert metrics["iou"]["background"] == 0.5 and metrics["coverage"] == 0.75 and metrics["miou_decided"] == 1.0
    with pytest.raises(StageError, match="a: the prediction holds 255; expected: a class id in every pixel"):
        MaskJudge(CLASSES, boundary=False, undecided=False).count("a", TRUTH, mask)


def test_calibration_by_hand():
    """The middle of each 8 x 8 block is sampled: two correct at 90 %, one wrong at 60 %, one not evaluated."""
    truth, mask = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    truth[:8, 8:], truth[8:, 8:], mask[8:, :8] = 255, 1, 2
    mask[8:, 8:] = 1
    judge = MaskJudge(CLASSES, boundary=False, undecided=False)
    judge.add(judge.count("a", truth, mask, np.array([[90, 20], [60, 90]], np.uint8)))
    assert judge.details()["calibration"] == [(0.6, 0.0, 1), (0.9, 1.0, 2)]
    assert judge.metrics()["calibration_error"] == pytest.approx((0.6 * 1 + 0.1 * 2) / 3)
    assert judge.metrics()["calibration_error_scaled"] is None  # there is no second image to fit a temperature on
    judge.add(judge.count("b", truth, mask, np.array([[90, 20], [60, 90]], np.uint8)))
    assert judge.metrics()["calibration_error_scaled"] < judge.metrics()["calibration_error"]
    assert judge.details()["calibration_scaled"] is not None and judge.metrics()["temperature"] < 1
    with pytest.raises(StageError, match="b: the confidence is"):
        judge.count("b", truth, mask, np.array([[90, 20]], np.uint8))
