import numpy as np

from wsseg.data.masks import decode_mask, encode_grey, encode_mask, sampled, with_lost_classes


def test_a_mask_survives_encoding():
    mask = np.array([[0, 1, 255], [254, 7, 0]], np.uint8)
    assert (decode_mask(encode_mask(mask)) == mask).all()


def test_a_lost_class_keeps_its_former_pixels_on_background():
    previous = np.array([[1] * 10 + [2] * 10], np.uint8)
    mask = np.array([[0, 255, 2] + [0] * 7 + [2] * 10], np.uint8)
    expected = np.array([[1, 1, 2] + [1] * 7 + [2] * 10], np.uint8)
    assert with_lost_classes(mask, previous, [1, 2]).tolist() == expected.tolist()


def test_a_class_that_only_shrank_is_not_changed():
    previous = np.array([[1] * 10], np.uint8)
    mask = np.array([[1] + [0] * 9], np.uint8)
    assert with_lost_classes(mask, previous, [1]).tolist() == mask.tolist()


def test_the_middle_pixels_are_sampled_and_a_single_pixel_is_kept():
    pixels = np.arange(20 * 9).reshape(20, 9)
    assert sampled(pixels).tolist() == [[3 * 9 + 3], [11 * 9 + 3], [19 * 9 + 3]]
    assert sampled(np.array([[7]])).tolist() == [[7]]


def test_grey_values_survive_encoding():
    grey = np.array([[0, 100, 42]], np.uint8)
    assert np.array_equal(decode_mask(encode_grey(grey)), grey)
