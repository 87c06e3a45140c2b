"""Mask values of colours."""

import numpy as np
import pytest

from wsseg.data import mask_colors
from wsseg.data.mask_colors import MaskColors


def test_each_colour_has_its_value_in_every_block_of_rows(monkeypatch):
    monkeypatch.setattr(mask_colors, "_ROWS", 3)
    colors = [(255, 255, 255), (0, 0, 0), (1, 0, 255), (0, 255, 1)]
    values = np.random.default_rng(0).integers(0, 4, (10, 7))
    mask = MaskColors({color: value for value, color in enumerate(colors)}, "x").mask(
        np.array(colors, np.uint8)[values]
    )
    assert mask.dtype == np.uint8 and np.array_equal(mask, values)


def test_the_first_unknown_colours_are_named():
    pixels = np.array([[[0, 0, 0], [255, 255, 255], [0, 0, 9], [0, 9, 0], [9, 0, 0]]], np.uint8)
    with pytest.raises(ValueError, match=r"its colours 0,0,9, 0,9,0, 9,0,0 and 1 more \(R,G,B\) are not .* in here"):
        MaskColors({(0, 0, 0): 0}, "here").mask(pixels)
