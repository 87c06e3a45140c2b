import numpy as np
import pytest

from wsseg.stages.predict_masks.doubt import ImageDoubt, doubt_table, image_doubt, most_doubtful


def masks(small: float, rest: float, class_id: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a 10 x 10 mask with four pixels of a class, and the probabilities of these and of the other pixels."""
    mask, probability = np.zeros((10, 10), np.uint8), np.full((10, 10), rest, np.float32)
    mask[:2, :2], probability[:2, :2] = class_id, small
    return mask, probability


def test_doubt_by_hand():
    """Four pixels at 75 %: one expected error, three expected hits, and one pixel that is 1 % of the image."""
    doubt = image_doubt("a", *masks(0.75, 1.0, class_id=2))
    assert doubt == ImageDoubt("a", pytest.approx(1 / (1 + 3 + 1)), pytest.approx(0.99), (2,))


def test_a_small_unsure_object_counts_more_than_a_large_background():
    unsure, sure = image_doubt("a", *masks(0.5, 1.0)), image_doubt("b", *masks(1.0, 0.999))
    assert unsure.doubt > 3 * sure.doubt


def test_sure_background_is_not_doubtful_and_unsure_background_is():
    empty = np.zeros((10, 10), np.uint8)
    assert image_doubt("a", empty, np.full((10, 10), 1.0, np.float32)).doubt == 0
    assert image_doubt("a", empty, np.full((10, 10), 0.6, np.float32)).doubt > 0.9


def test_the_table_begins_with_the_most_doubtful():
    doubts = [ImageDoubt("b", 0.1, 0.9, ()), ImageDoubt("x,y", 0.5, 0.8, (1, 2)), ImageDoubt("a", 0.1, 0.9, (2,))]
    assert [d.image_id for d in most_doubtful(doubts)] == ["x,y", "a", "b"]
    assert doubt_table(doubts, ("background", "pit", "thin crack")).decode().splitlines() == [
        "image_id,doubt,mean_probability,classes",
        '"x,y",0.5000,0.8000,pit|thin crack',
        "a,0.1000,0.9000,thin crack",
        "b,0.1000,0.9000,",
    ]
