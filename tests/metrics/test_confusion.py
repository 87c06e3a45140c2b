import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, jaccard_score

from wsseg.errors import StageError
from wsseg.metrics.confusion import (
    confusion,
    counts_at,
    coverage,
    decided_only,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
    threshold_counts,
)

TRUTH = np.array([[0, 0, 1], [1, 2, 255]], dtype=np.uint8)
MASK = np.array([[0, 1, 1], [255, 2, 0]], dtype=np.uint8)


def test_counts_by_hand():
    counts = confusion(TRUTH, MASK, 3)
    # rows: truth 0, 1, 2; columns: predicted 0, 1, 2, undecided; the pixel whose truth is 255 is ignored
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    # class 1: intersection 1, two true pixels, two predicted -> 1 / 3: the undecided pixel is a false negative
    assert iou_per_class(counts).tolist() == [1 / 2, 1 / 3, 1.0]
    assert pixel_accuracy(counts) == 3 / 5 and coverage(counts) == 4 / 5
    assert iou_per_class(decided_only(counts)).tolist() == [1 / 2, 1 / 2, 1.0]


def test_large_masks_are_counted_in_parts(monkeypatch):
    counts = confusion(TRUTH, MASK, 3)
    monkeypatch.setattr("wsseg.metrics.confusion._PART", 4)
    assert np.array_equal(confusion(TRUTH, MASK, 3), counts)
    with pytest.raises(StageError, match="the truth contains 2; expected"):  # in the last part
        confusion(TRUTH, np.zeros_like(MASK), 2)


def test_a_class_that_does_not_occur_is_ignored_by_the_mean():
    counts = confusion(TRUTH, MASK, 5)
    assert np.isnan(iou_per_class(counts)[3:]).all()
    assert mean_iou(iou_per_class(counts)) == mean_iou(iou_per_class(confusion(TRUTH, MASK, 3)))
    assert np.isnan(mean_iou(np.array([np.nan])))


def test_the_iou_of_a_class_that_is_only_predicted_is_zero():
    assert iou_per_class(confusion(np.zeros((1, 2), np.uint8), np.array([[0, 1]], np.uint8), 2)).tolist() == [0.5, 0.0]


def test_unexpected_values_and_sizes_are_rejected():
    with pytest.raises(
        StageError, match=r"the mask has the size \(3, 2\) \(H, W\); expected: that of the truth, \(2, 3\)"
    ):
        confusion(TRUTH, MASK.T, 3)
    with pytest.raises(StageError, match=r"the mask contains 7; expected: 0..2, 255"):
        confusion(TRUTH, np.full_like(MASK, 7), 3)
    with pytest.raises(StageError, match="the truth contains 2"):
        confusion(TRUTH, np.zeros_like(MASK), 2)


@given(st.integers(0, 2**31), st.integers(2, 5))
def test_parity_with_scikit_learn(seed, labels):
    rng = np.random.default_rng(seed)
    truth, mask = (rng.integers(0, labels, (6, 7)).astype(np.uint8) for _ in range(2))
    counts = confusion(truth, mask, labels)
    present = sorted({*truth.ravel().tolist(), *mask.ravel().tolist()})
    theirs = jaccard_score(truth.ravel(), mask.ravel(), labels=present, average=None)
    assert np.allclose(iou_per_class(counts)[present], theirs)
    assert pixel_accuracy(counts) == pytest.approx(accuracy_score(truth.ravel(), mask.ravel()))


@given(st.integers(0, 2**31), st.integers(1, 255))
def test_counts_at_a_threshold_equal_the_confusion_matrix_of_a_mask_at_it(seed, threshold):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 255], (9, 8)).astype(np.uint8)
    best, score = rng.integers(0, 3, (9, 8)).astype(np.uint8), rng.integers(0, 256, (9, 8)).astype(np.uint8)
    histogram = threshold_counts(truth, best, score, 3)
    mask = np.where(score >= threshold, best, 0).astype(np.uint8)
    assert np.array_equal(counts_at(histogram, threshold), confusion(truth, mask, 3))
