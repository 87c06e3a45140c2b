"""Pictures of maps: heat maps over photographs, colour bars, sheets of several panels."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from wsseg.types import Image

_BAR = 14  # px, width of the colour bar
_MARGIN = 6  # px
_TEXT = 14  # px, height of a line


def heat(values: NDArray[np.float32]) -> Image:
    """Return (H, W, 3) viridis colours, perceptually uniform, of values (H, W) in [0, 1]."""
    grey = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1])


def overlay(image: Image, values: NDArray[np.float32], opacity: float = 0.6) -> Image:
    """Return the photograph (H, W, 3) under the heat of a map (h, w) in [0, 1], enlarged to it."""
    height, width = image.shape[:2]
    large = np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)  # so that only the map has colours
    mixed = (1 - opacity) * grey + opacity * heat(large)
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def panel(picture: Image, title: str, bar: bool = True) -> Image:
    """Return a picture with a title above and a colour bar from 0 to 1 on the right."""
    height, width = picture.shape[:2]
    right = 2 * _MARGIN + _BAR + 2 * _TEXT if bar else _MARGIN
    canvas = PILImage.new("RGB", (width + right, height + _TEXT + 2 * _MARGIN), "white")
    canvas.paste(PILImage.fromarray(picture), (0, _TEXT + 2 * _MARGIN))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_TEXT)
    draw.text((_MARGIN, _MARGIN - 2), _fitting(title, width + right - 2 * _MARGIN, font), fill="black", font=font)
    if bar:
        ramp = np.repeat(np.linspace(1, 0, height, dtype=np.float32)[:, None], _BAR, axis=1)
        left, top = width + _MARGIN, _TEXT + 2 * _MARGIN
        canvas.paste(PILImage.fromarray(heat(ramp)), (left, top))
        small = ImageFont.load_default(_TEXT - 3)
        draw.text((left + _BAR + 3, top), "1", fill="black", font=small)
        draw.text((left + _BAR + 3, top + height - _TEXT), "0", fill="black", font=small)
    return np.asarray(canvas)


def _fitting(text: str, width: float, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> str:
    """Return a text, shortened to a width in pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text


def sheet(panels: Sequence[Image], columns: int) -> Image:
    """Return panels arranged in rows, in cells of the size of the largest panel."""
    height, width = (max(p.shape[axis] for p in panels) for axis in (0, 1))
    rows = -(-len(panels) // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, picture in enumerate(panels):
        top, left = height * (index // columns), width * (index % columns)
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas
