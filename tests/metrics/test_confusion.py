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
    # rows: truth 0, 1, 2; columns: given 0, 1, 2, undecided; the pixel whose truth is 255 is left out
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    # class 1: one hit, two true, two given -> 1 / 3: the undecided pixel is a miss
    assert iou_per_class(counts).tolist() == [1 / 2, 1 / 3, 1.0]
    assert pixel_accuracy(counts) == 3 / 5 and coverage(counts) == 4 / 5
    assert iou_per_class(decided_only(counts)).tolist() == [1 / 2, 1 / 2, 1.0]


def test_large_masks_are_counted_in_parts(monkeypatch):
    whole = confusion(TRUTH, MASK, 3)
    monkeypatch.setattr("wsseg.metrics.confusion._PART", 4)
    assert np.array_equal(confusion(TRUTH, MASK, 3), whole)
    with pytest.raises(StageError, match="the truth holds 2; expected"):  # in the last part
        confusion(TRUTH, np.zeros_like(MASK), 2)


def test_a_class_that_occurs_nowhere_does_not_count():
    counts = confusion(TRUTH, MASK, 5)
    assert np.isnan(iou_per_class(counts)[3:]).all()
    assert mean_iou(iou_per_class(counts)) == mean_iou(iou_per_class(confusion(TRUTH, MASK, 3)))
    assert np.isnan(mean_iou(np.array([np.nan])))


def test_a_class_that_is_only_predicted_counts_as_zero():
    assert iou_per_class(confusion(np.zeros((1, 2), np.uint8), np.array([[0, 1]], np.uint8), 2)).tolist() == [0.5, 0.0]


def test_illegal_values_and_sizes_are_refused():
    with pytest.raises(StageError, match=r"the mask is \(3, 2\) \(H, W\), its truth \(2, 3\)"):
        confusion(TRUTH, MASK.T, 3)
    with pytest.raises(StageError, match=r"the mask holds 7; expected: 0..2, 255"):
        confusion(TRUTH, np.full_like(MASK, 7), 3)
    with pytest.raises(StageError, match="the truth holds 2"):
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
def test_a_threshold_read_off_the_histogram_equals_a_mask_made_at_it(seed, threshold):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 255], (9, 8)).astype(np.uint8)
    best, score = rng.integers(0, 3, (9, 8)).astype(np.uint8), rng.integers(0, 256, (9, 8)).astype(np.uint8)
    histogram = threshold_counts(truth, best, score, 3)
    mask = np.where(score >= threshold, best, 0).astype(np.uint8)
    assert np.array_equal(counts_at(histogram, threshold), confusion(truth, mask, 3))
