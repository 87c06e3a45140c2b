"""What a person said of a pixel stays through the background score, the CRF, the walk and the rounds."""

import numpy as np

from wsseg.data.masks import with_mark
from wsseg.saliency.seeds import with_mark as marked_maps
from wsseg.stages.refine_masks.policy import marked_scores, pseudo_mask
from wsseg.types import Seed


def test_said_pixels_have_the_whole_score():
    scores = np.full((3, 1, 4), 1 / 3, np.float32)
    marked = marked_scores(scores, [2, 5], np.array([[0, 5, 255, 7]], np.uint8))
    assert marked[:, 0, 0].tolist() == [1, 0, 0] and marked[:, 0, 1].tolist() == [0, 0, 1]
    assert (marked[:, 0, 2:] == scores[:, 0, 2:]).all()  # unsaid, and a class that the labels do not name
    assert (scores == np.float32(1 / 3)).all()


def test_a_mask_keeps_what_was_said_of_any_class():
    mask, mark = np.array([[1, 1, 0, 255]], np.uint8), np.array([[255, 0, 7, 1]], np.uint8)
    assert with_mark(mask, mark).tolist() == [[1, 0, 7, 1]]


def test_the_refinement_starts_from_what_was_said_and_cannot_take_it_back():
    """A refinement that makes everything background sees the said pixels, and does not decide them."""
    seed = Seed((1,), np.full((1, 2, 4), 0.9, np.float32), (2, 4))
    mark = np.full((2, 4), 255, np.uint8)
    mark[0, 0], mark[1, 3] = 1, 0
    seen = []

    def washes_out(scores):
        seen.append(scores.copy())
        return np.stack([np.ones((2, 4)), np.zeros((2, 4))]).astype(np.float32)

    def marked(scores):
        return marked_scores(scores, seed.class_ids, mark)

    mask = with_mark(pseudo_mask(seed, "threshold", [0.3], [marked, washes_out]), mark)
    assert seen[0][:, 1, 3].tolist() == [1, 0] and seen[0][:, 0, 0].tolist() == [0, 1]
    assert mask[0, 0] == 1 and mask[1, 3] == 0


def test_a_thin_stroke_is_not_lost_on_a_coarser_grid():
    maps = np.full((2, 4, 4), 0.5, np.float32)
    mark = np.full((16, 16), 255, np.uint8)
    mark[5, :8], mark[12:, 12:] = 2, 0
    marked = marked_maps(maps, [1, 2], mark)
    assert marked[1, 1, :2].tolist() == [1, 1] and marked[0, 1, :2].tolist() == [0, 0]
    assert (marked[:, 3, 3] == 0).all()
    assert (marked[:, 0] == 0.5).all() and (marked[:, 1, 2:] == 0.5).all()


def test_nothing_said_changes_nothing():
    maps = np.random.default_rng(0).random((1, 3, 3)).astype(np.float32)
    assert marked_maps(maps, [1], np.full((9, 9), 255, np.uint8)) is maps
    nothing = np.zeros((0, 3, 3), np.float32)
    assert marked_maps(nothing, [], np.zeros((9, 9), np.uint8)).shape == (0, 3, 3)
