"""Network inputs: photographs are resized one by one, with the same result as all together."""

import weakref

import numpy as np
import torch

from wsseg.data.batches import at_size, network_inputs
from wsseg.data.transforms import normalised

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
CPU = torch.device("cpu")


class Photograph(np.ndarray):
    """An array whose lifetime can be observed."""


def test_only_one_photograph_is_in_memory_at_a_time():
    held = []

    def decoded():
        for shade in range(4):
            assert all(photograph() is None for photograph in held)
            image = np.full((300, 400, 3), shade, np.uint8).view(Photograph)
            held.append(weakref.ref(image))
            yield image
            del image

    (seen,) = network_inputs(decoded(), MEAN, STD, [(64, 96)], CPU)
    assert seen.shape == (4, 3, 64, 96)


def test_one_by_one_and_together_are_equal():
    images = list(np.random.default_rng(0).integers(0, 256, (3, 250, 333, 3), dtype=np.uint8))
    together = torch.stack([normalised(image, MEAN, STD) for image in images])
    sizes = [(64, 96), (128, 160), (256, 320)]
    for seen, size in zip(network_inputs(iter(images), MEAN, STD, sizes, CPU), sizes, strict=True):
        assert torch.equal(seen, at_size(together, size))


def test_normalised_by_hand():
    image = np.array([[[0, 255, 51]]], np.uint8)
    assert np.allclose(normalised(image, MEAN, STD).flatten(), [-2, 5 / 3, -1], atol=1e-6)
