import numpy as np

from wsseg.crf.dense_crf import DenseCrf
from wsseg.crf.settings import PRESETS
from wsseg.stages.refine_masks.policy import pseudo_mask, scores_of
from wsseg.types import Seed

IMAGE = np.zeros((1, 4, 3), dtype=np.uint8)
SEED = Seed((2, 5), np.array([[[0.9, 0.4, 0.1, 0.0]], [[0.2, 0.5, 0.0, 0.0]]], dtype=np.float32), (1, 4))


def test_threshold_score_by_hand():
    scores = scores_of(SEED, "threshold", 0.3)
    assert np.allclose(scores[:, 0, 0], np.array([0.3, 0.9, 0.2]) / 1.4)
    assert np.allclose(scores.sum(0), 1)


def test_power_score_by_hand():
    scores = scores_of(SEED, "power", 4.0)
    assert np.allclose(scores[:, 0, 1], np.array([0.5**4, 0.4, 0.5]) / (0.5**4 + 0.9))
    assert scores[:, 0, 3].tolist() == [1, 0, 0]


def test_one_level_decides_every_pixel():
    assert pseudo_mask(SEED, "threshold", [0.3]).tolist() == [[2, 5, 0, 0]]


def test_pixels_between_two_levels_become_255_in_any_order_of_the_levels():
    # strict 0.6: only pixel 0 is foreground; lax 0.05: pixels 0, 1, 2 are, so 3 alone is background
    for levels in ([0.6, 0.05], [0.05, 0.6]):
        assert pseudo_mask(SEED, "threshold", levels).tolist() == [[2, 255, 255, 0]]


def test_pixels_between_two_alphas_become_255():
    # alpha 1: background 0.1, 0.5, 0.9, 1 -> pixel 0 (pixel 1 ties, background first); alpha 100: pixels 0, 1, 2
    assert pseudo_mask(SEED, "power", [1.0, 100.0]).tolist() == [[2, 255, 255, 0]]


def test_an_image_without_classes_is_background_and_needs_no_crf():
    seed = Seed((), np.zeros((0, 1, 4), np.float32), (1, 4))
    assert pseudo_mask(seed, "threshold", [0.3], [DenseCrf(IMAGE, PRESETS["irn"]).refine]).tolist() == [[0, 0, 0, 0]]


def test_the_crf_moves_a_mask_to_the_edge_of_the_object():
    image = np.full((40, 60, 3), 40, dtype=np.uint8)
    image[10:30, 20:45] = 220
    maps = np.zeros((1, 40, 60), dtype=np.float32)
    maps[0, 8:28, 24:40] = 0.9  # a seed that misses parts of the object and exceeds it elsewhere
    seed = Seed((3,), maps, (40, 60))
    truth = np.where(image[..., 0] > 100, 3, 0)
    crf = DenseCrf(image, PRESETS["irn"])
    without, with_crf = (pseudo_mask(seed, "threshold", [0.3], r) for r in ([], [crf.refine]))
    assert (with_crf == truth).mean() > (without == truth).mean()
    assert (with_crf == truth).mean() > 0.97


def test_a_class_that_is_lost_in_the_refinement_keeps_its_pixels():
    """As a thin line that a CRF dissolves into the background."""

    def dissolve(scores):
        return np.stack([np.ones_like(scores[0]), 0 * scores[1], scores[2]])

    seed = Seed((2, 5), np.array([[[0.9, 0.9, 0.1, 0.0]], [[0.0, 0.0, 0.0, 0.9]]], dtype=np.float32), (1, 4))
    assert pseudo_mask(seed, "threshold", [0.3], [dissolve]).tolist() == [[2, 2, 0, 5]]
    # with two levels, the pixels that the lax level gave the lost class become 255
    assert pseudo_mask(seed, "threshold", [0.95, 0.3], [dissolve]).tolist() == [[255, 255, 0, 255]]
