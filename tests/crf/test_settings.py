from dataclasses import replace

import numpy as np
import pytest

from wsseg.crf.settings import PRESETS, best_labels, label_unary, score_unary
from wsseg.errors import StageError


def test_unary_of_labels_by_hand():
    unary = label_unary(np.array([[0, 2]], dtype=np.uint8), 3, 0.7)
    differ = -np.log(0.15)
    assert np.allclose(unary[:, 0], [[-np.log(0.7), differ], [differ, differ], [differ, -np.log(0.7)]])
    assert np.array_equal(label_unary(np.zeros((2, 2), np.uint8), 1, 0.7), np.zeros((1, 2, 2)))


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused(label):
    with pytest.raises(StageError, match=f"found label {label}; expected: 0 to 2"):
        label_unary(np.array([[0, label]]), 3, 0.7)


def test_unary_of_scores_is_finite_at_zero():
    assert np.allclose(score_unary(np.array([0, 0.5, 1], np.float32)), [-np.log(1e-5), np.log(2), 0])


def test_best_labels_are_the_argmax_with_ties_to_the_first():
    scores = np.random.default_rng(0).integers(0, 4, (6, 20, 30)).astype(np.float32)
    assert np.array_equal(best_labels(scores), scores.argmax(0))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("gaussian_sxy", 0, "gaussian_sxy: found 0; expected: more than 0"),
        ("bilateral_srgb", float("nan"), "bilateral_srgb: found nan"),
        ("iterations", -1, "iterations: found -1"),
        ("gt_prob", 1.0, "gt_prob: found 1.0; expected: between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(field, value, message):
    with pytest.raises(StageError, match=message):
        replace(PRESETS["irn"], **{field: value})
