import numpy as np
import pytest

from wsseg.saliency.walk import walked
from wsseg.stages.walk_seeds.choice import ranked_right, sample_of, walk_helps
from wsseg.types import LabeledImage


def test_ranked_right_by_hand_and_against_all_pairs():
    values = np.array([[0.9, 0.2, 0.5, 0.5, 0.1, 0.7]], np.float32)
    sure = np.array([[1, 1, 1, 0, 0, 255]], np.uint8)
    # pairs with background 0.5 and 0.1: 0.9 is above both, 0.2 above one, 0.5 above one and tied with the other
    assert ranked_right(values, sure, 1) == pytest.approx((2 + 1 + 1.5) / 6)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (20, 30)).astype(np.float32)
    sure = rng.choice(np.array([0, 1, 2, 255], np.uint8), (20, 30))
    inside, outside = values[sure == 2], values[sure == 0]
    pairs = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    assert ranked_right(values, sure, 2) == pytest.approx(pairs.mean())


def test_the_share_is_none_without_sure_pixels_on_one_side():
    values = np.zeros((2, 2), np.float32)
    assert ranked_right(values, np.full((2, 2), 255, np.uint8), 1) is None
    assert ranked_right(values, np.zeros((2, 2), np.uint8), 1) is None


def sure_pixels(thing: np.ndarray) -> np.ndarray:
    sure = np.full((40, 60), 255, np.uint8)
    sure[thing] = 1
    sure[:6] = sure[-6:] = 0
    sure[:, :6] = sure[:, -6:] = 0
    return sure


def test_a_large_object_walks_and_a_line_that_leaks_away_does_not():
    block, line = np.zeros((2, 40, 60), bool)
    block[14:26, 15:45] = True
    line[20, 15:45] = True
    seed = np.zeros((1, 40, 60), np.float32)
    seed[0, 16:25, 15:45] = 1  # coarse, as a CAM is
    around = np.full((40, 60), 0.02, np.float32)
    around[13:27, 14:46] = 0.4
    around[block] = 0.02
    on_the_line = np.where(line, 0.95, 0.02).astype(np.float32)  # every pixel of a line is on its boundary
    shares = {
        1: [ranked_right(walked(seed, around)[0], sure_pixels(block), 1)],
        2: [ranked_right(walked(seed, on_the_line)[0], sure_pixels(line), 1)],
    }
    assert shares[1][0] > 0.99
    assert shares[2][0] < 0.5
    assert walk_helps({1: shares[1]}) and not walk_helps(shares)


def test_the_mean_over_classes_decides_and_classes_without_sure_pixels_are_ignored():
    assert walk_helps({1: [1.0, 0.98], 2: [0.96], 3: []})  # 0.99 and 0.96
    assert not walk_helps({1: [1.0, 0.98], 2: [0.94], 3: []})
    assert not walk_helps({1: [], 2: []})


def test_the_sample_is_evenly_spaced_over_the_labeled_images(tmp_path):
    items = [LabeledImage(str(i), tmp_path, (1,) if i % 2 else (), (8, 8), "") for i in range(1000)]
    sample = sample_of(items)
    assert len(sample) == 96
    assert all(item.class_ids for item in sample)
    assert int(sample[0].id) < 20 and int(sample[-1].id) > 980
