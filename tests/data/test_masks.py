import numpy as np

from wsseg.data.masks import decode_mask, encode_mask, with_lost_classes


def test_a_mask_comes_back_as_it_was():
    mask = np.array([[0, 1, 255], [254, 7, 0]], np.uint8)
    assert (decode_mask(encode_mask(mask)) == mask).all()


def test_a_class_that_the_network_lost_keeps_its_former_pixels_where_nothing_else_is():
    previous = np.array([[1] * 10 + [2] * 10], np.uint8)
    mask = np.array([[0, 255, 2] + [0] * 7 + [2] * 10], np.uint8)
    expected = np.array([[1, 1, 2] + [1] * 7 + [2] * 10], np.uint8)
    assert with_lost_classes(mask, previous, [1, 2]).tolist() == expected.tolist()


def test_a_class_that_only_shrank_is_left_to_the_network():
    previous = np.array([[1] * 10], np.uint8)
    mask = np.array([[1] + [0] * 9], np.uint8)
    assert with_lost_classes(mask, previous, [1]).tolist() == mask.tolist()
