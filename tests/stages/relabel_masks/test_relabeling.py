import numpy as np
import pytest

from wsseg.crf.dense_crf import DenseCrf
from wsseg.crf.settings import PRESETS
from wsseg.stages.relabel_masks.relabeling import among_present, changed, relabelled

# background, class 1, class 2, class 3 on a 2 x 2 grid
SCORES = np.array(
    [[[0.1, 0.5], [0.3, 0.25]], [[0.2, 0.1], [0.3, 0.25]], [[0.6, 0.1], [0.1, 0.25]], [[0.1, 0.3], [0.3, 0.25]]],
    np.float32,
)


def test_scores_of_absent_classes_are_dropped():
    scores = among_present(SCORES, (1, 3))
    assert scores.shape == (3, 2, 2) and np.allclose(scores.sum(0), 1)
    assert np.allclose(scores[:, 0, 0], [0.25, 0.5, 0.25])  # class 2 had the highest score there


def test_labels_and_confidence_by_hand():
    scores = among_present(SCORES, (1, 3))
    # highest scores: 0.5 (class 1), 0.56 (background), 1/3, 1/3
    assert relabelled(scores, (1, 3), (2, 2), None, 0.0).tolist() == [[1, 0], [0, 0]]
    assert relabelled(scores, (1, 3), (2, 2), None, 0.45).tolist() == [[1, 0], [255, 255]]
    assert relabelled(scores, (1, 3), (2, 2), None, 0.55).tolist() == [[255, 0], [255, 255]]


def test_an_image_without_classes_is_background():
    assert not relabelled(among_present(SCORES, ()), (), (5, 7), None, 0.9).any()


def test_the_crf_chooses_labels_that_the_network_must_be_confident_of():
    rng = np.random.default_rng(0)
    image = np.full((48, 64, 3), 60, np.uint8)
    image[:, 32:] = 200
    scores = np.full((2, 12, 16), 0.2, np.float32)
    scores[1, :, 8:] = 0.8
    scores[1, 4:6, 2:4], scores[1, 2:4, 12:14] = 0.55, 0.3  # weak spots on the wrong side of the edge
    scores[0] = 1 - scores[1]
    image = image + rng.integers(0, 8, image.shape).astype(np.uint8)
    crf = DenseCrf(image, PRESETS["deeplab"])
    mask = relabelled(scores, (4,), (48, 64), crf, 0.0)
    assert set(np.unique(mask)) == {0, 4} and (mask[:, 34:] == 4).all() and (mask[:, :30] == 0).all()
    mask = relabelled(scores, (4,), (48, 64), crf, 0.6)
    assert (mask[10:14, 50:54] == 255).all() and (mask[30:, 40:] == 4).all() and (mask[18:22, 10:14] == 255).all()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [([[0, 1]], [[0, 2]], (1, 2)), ([[255, 1]], [[0, 255]], (0, 0)), ([[3, 3]], [[3, 3]], (0, 2))],
)
def test_changed_by_hand(before, after, expected):
    assert changed(np.array(before, np.uint8), np.array(after, np.uint8)) == expected
