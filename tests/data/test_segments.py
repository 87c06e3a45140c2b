import numpy as np
import pytest

from wsseg.data.segments import decode_segments, encode_segments, enlarged, layered, partition
from wsseg.errors import ArtifactError

LABELS = np.array([[0, 0, 1], [2, 1, 1]])


def test_a_partition_is_one_layer_with_numbers_from_one():
    segments = partition(LABELS, (4, 6))
    assert segments.layers.tolist() == [[[1, 1, 2], [3, 2, 2]]]
    assert segments.scores.tolist() == [1, 1, 1] and segments.class_ids.tolist() == [0, 0, 0]


def test_masks_that_overlap_go_to_different_layers_and_empty_ones_are_left_out():
    left, right, whole = np.zeros((3, 2, 4), bool)
    left[:, :2], right[:, 2:], whole[:] = True, True, True
    segments = layered([left, np.zeros_like(left), whole, right], [1, 1, 0, 2], [0.5, 0.9, 0.25, 1.0], (2, 4))
    assert segments.layers[:, 0].tolist() == [[1, 1, 3, 3], [2, 2, 2, 2]]  # left and right share the first layer
    assert segments.class_ids.tolist() == [1, 0, 2] and segments.scores.tolist() == [0.5, 0.25, 1.0]


def test_segments_survive_their_file():
    given = layered([LABELS == 1, LABELS < 2], [3, 0], [0.1234, 1.0], (9, 8))
    read = decode_segments(encode_segments(given))
    assert np.array_equal(read.layers, given.layers) and read.layers.dtype == np.uint16 and read.size == (9, 8)
    assert np.array_equal(read.scores, given.scores) and read.class_ids.tolist() == [3, 0]
    many = partition(np.arange(70_000 // 2).reshape(350, 100), (350, 100))  # more numbers than a byte holds
    assert np.array_equal(decode_segments(encode_segments(many)).layers, many.layers)


def test_an_image_without_segments_has_one_empty_layer():
    read = decode_segments(encode_segments(layered([], [], [], (5, 7))))
    assert enlarged(read).layers.shape == (1, 5, 7) and not read.layers.any() and len(read.scores) == 0


def test_enlarged_repeats_pixels():
    assert (
        enlarged(partition(LABELS, (4, 6))).layers[0].tolist() == np.repeat(np.repeat(LABELS + 1, 2, 0), 2, 1).tolist()
    )


def test_too_many_segments_are_refused():
    with pytest.raises(ArtifactError, match="raise segments.min_size"):
        partition(np.arange(65_536).reshape(256, 256), (256, 256))


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", encode_segments(partition(LABELS, (4, 6)))[:80]])
def test_what_are_no_segments_is_refused(data):
    with pytest.raises(ArtifactError, match="not a file of segments"):
        decode_segments(data)
