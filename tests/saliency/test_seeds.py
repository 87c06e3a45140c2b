import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.errors import ArtifactError
from wsseg.saliency.seeds import decode_seed, encode_seed, enlarged
from wsseg.types import Seed


@given(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_a_seed_survives_its_file(channels, height, width, seed):
    maps = np.random.default_rng(seed).random((channels, height, width), dtype=np.float32)
    given_seed = Seed(tuple(range(2, 2 + channels)), maps, (4 * height - 1, 4 * width))
    read = decode_seed(encode_seed(given_seed))
    assert read.class_ids == given_seed.class_ids and read.size == given_seed.size
    if channels:
        assert read.maps.shape == maps.shape and np.abs(read.maps - maps).max() <= 0.5 / 255 + 1e-6


def test_a_seed_without_classes(tmp_path):
    read = decode_seed(encode_seed(Seed((), np.zeros((0, 3, 4), np.float32), (12, 16))))
    assert read.class_ids == () and enlarged(read).maps.shape == (0, 12, 16)


def test_enlarged_has_the_size_of_the_image_and_keeps_constants():
    seed = Seed((1,), np.full((1, 3, 4), 0.5, np.float32), (11, 15))
    assert enlarged(seed).maps.shape == (1, 11, 15) and np.allclose(enlarged(seed).maps, 0.5)


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", encode_seed(Seed((1,), np.ones((1, 2, 2), np.float32), (8, 8)))[:60]]
)
def test_what_is_no_seed_is_refused(data):
    with pytest.raises(ArtifactError, match="not a seed file"):
        decode_seed(data)
