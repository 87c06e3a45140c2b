"""Kinds of errors, on masks small enough to count by hand."""

import numpy as np
import pytest

from wsseg.metrics.confusion import confusion
from wsseg.metrics.errors import ClassPixels, class_pixels

TRUTH = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 2, 2, 0, 255]], np.uint8)
MASK = np.array([[1, 0, 2, 255, 1, 0], [1, 1, 2, 1, 2, 1]], np.uint8)


def test_every_kind_of_error_is_counted():
    background, first, second = class_pixels(confusion(TRUTH, MASK, 3))
    # class 1: hits (0,0) (1,0) (1,1); missed (0,1); spill (0,4); wrong (0,2) as 2, and (1,3), which is 2; undecided (0,3)
    assert first == ClassPixels(hits=3, missed=1, spill=1, wrong=2, undecided=1)
    assert second == ClassPixels(hits=1, missed=0, spill=1, wrong=2, undecided=0)
    assert background == ClassPixels(hits=1, missed=2, spill=1, wrong=0, undecided=0)
    assert first.iou == pytest.approx(3 / 8) and first.errors == 5


def test_iou_equals_the_intersection_over_the_union_of_pixels():
    rng = np.random.default_rng(0)
    truth, mask = (rng.choice([0, 1, 2, 3, 255], (40, 50)).astype(np.uint8) for _ in range(2))
    for k, pixels in enumerate(class_pixels(confusion(truth, mask, 4))):
        inside = truth != 255
        intersection = ((truth == k) & (mask == k) & inside).sum()
        union = (((truth == k) | (mask == k)) & inside).sum()
        assert pixels.iou == pytest.approx(intersection / union)


def test_a_class_without_pixels_has_no_iou():
    assert class_pixels(confusion(TRUTH, TRUTH, 4))[3].iou is None
