import numpy as np

from wsseg.data.segments import enlarged
from wsseg.stages.make_segments.superpixels import superpixels


def test_superpixels_follow_the_edge_of_an_object():
    image = np.full((60, 90, 3), 60, np.uint8)
    image[20:40, 30:70] = 200
    segments = superpixels(image, 640, 100.0, 0.0, 20)
    assert segments.layers.shape == (1, 60, 90) and len(segments.scores) == segments.layers.max()
    inside = np.unique(segments.layers[0, 20:40, 30:70])
    assert set(inside).isdisjoint(np.unique(segments.layers[0, :20])) and len(inside) == 1


def test_large_images_are_divided_at_a_smaller_size_and_small_ones_as_they_are():
    image = np.random.default_rng(0).integers(0, 255, (40, 100, 3)).astype(np.uint8)
    segments = superpixels(image, 50, 50.0, 0.8, 10)
    assert segments.layers.shape == (1, 20, 50) and segments.size == (40, 100)
    assert enlarged(segments).layers.shape == (1, 40, 100)
    assert superpixels(image, 101, 50.0, 0.8, 10).layers.shape == (1, 40, 100)


def test_a_grey_line_of_one_pixel_is_divided():
    assert superpixels(np.zeros((1, 300, 3), np.uint8), 64, 100.0, 0.8, 20).size == (1, 300)
