"""Masks whose classes are colours, such as those of CVAT and Datumaro with a ``labelmap.txt``."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import listed
from wsseg.types import Mask

Color = tuple[int, int, int]  # R, G, B, each from 0 to 255
_ROWS = 512  # translated at a time, because intermediate results take 12 bytes per pixel


class MaskColors:
    """The mask value of each colour.

    Args:
        values: mask value (0 to 255) by colour.
        where: the file that states the colours, for messages.
    """

    def __init__(self, values: Mapping[Color, int], where: str) -> None:
        self.values, self.where = dict(sorted(values.items())), where
        self._codes = np.array([_code(color) for color in self.values], np.uint32)  # sorted, as the colours are
        self._values = np.array(list(self.values.values()), np.uint8)

    def mask(self, pixels: NDArray[np.uint8]) -> Mask:
        """Return the (H, W) uint8 mask values of (H, W, 3) pixels.

        Raises:
            ValueError: a colour without value; the text names it.
        """
        mask = np.empty(pixels.shape[:2], np.uint8)
        unknown: set[int] = set()
        for top in range(0, len(pixels), _ROWS):
            red, green, blue = np.moveaxis(pixels[top : top + _ROWS].astype(np.uint32), 2, 0)
            codes = red << 16 | green << 8 | blue
            places = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
            unknown.update(np.unique(codes[self._codes[places] != codes]).tolist())
            mask[top : top + _ROWS] = self._values[places]
        if unknown:
            colors = [f"{code >> 16},{code >> 8 & 255},{code & 255}" for code in sorted(unknown)]
            raise ValueError(f"its colours {listed(colors, 3)} (R,G,B) are not the colour of one class in {self.where}")
        return mask


def _code(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]
