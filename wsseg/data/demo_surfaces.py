"""The harder demo data set: generated surfaces with small, thin and pale defects, and exact masks.

Surfaces are rolled, cast or brushed, unevenly lit, and carry marks that belong to no class (dust, grinding marks). A defect is a
scratch (1.5 to 3.5 px wide), a pit (3 to 12 px) or a stain (12 to 40 px, low contrast); each may be darker or lighter than its
surroundings. Half of the images show no defect.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.types import Image, Mask

CLASSES = ("scratch", "pit", "stain")
Grey = NDArray[np.float32]  # (H, W), grey levels of 255


def draw_surface(rng: np.random.Generator, size: tuple[int, int], empty: bool) -> tuple[Image, Mask]:
    """Draw one surface and its exact mask.

    Args:
        rng: source of randomness.
        size: (H, W) in pixels.
        empty: whether it shows no defect.

    Returns:
        (H, W, 3) uint8 and (H, W) uint8 class ids.
    """
    surface = [_rolled, _cast, _brushed][int(rng.integers(3))](rng, size)
    surface += _light(rng, size)
    for _ in range(int(rng.integers(0, 12))):  # dust
        surface += _blob(rng, size, rng.uniform(0.5, 0.9)) * rng.uniform(-35, 35)
    mask = np.zeros(size, np.uint8)
    kinds = rng.choice(3, size=1 if rng.random() < 0.7 else 2, replace=False)
    for kind in () if empty else kinds:
        for _ in range(int(rng.integers(1, 4))):
            shape, contrast = [_scratch, _pit, _stain][kind](rng, size)
            sign = -1 if rng.random() < (0.8 if CLASSES[kind] == "pit" else 0.5) else 1
            surface += shape * contrast * sign
            mask[shape > 0.5] = kind + 1
    surface += rng.normal(0, 2.5, size)
    tint = rng.uniform(0.97, 1.03, 3)
    return np.clip(surface[..., None] * tint, 0, 255).astype(np.uint8), mask


def _noise(rng: np.random.Generator, size: tuple[int, int], sigma: tuple[float, float]) -> Grey:
    """Return smoothed noise of deviation 1; `sigma` is (vertical, horizontal) in pixels."""
    noise = rng.normal(0, 1, size).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigmaX=sigma[1], sigmaY=sigma[0])
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def _rolled(rng: np.random.Generator, size: tuple[int, int]) -> Grey:
    return (rng.uniform(90, 170) + 7 * _noise(rng, size, (0.7, 9)) + 4 * _noise(rng, size, (3, 60))).astype(np.float32)


def _cast(rng: np.random.Generator, size: tuple[int, int]) -> Grey:
    return (rng.uniform(80, 160) + 8 * _noise(rng, size, (1.2, 1.2)) + 6 * _noise(rng, size, (5, 5))).astype(np.float32)


def _brushed(rng: np.random.Generator, size: tuple[int, int]) -> Grey:
    """Fine parallel grinding marks in a direction of their own."""
    height, width = size
    side = height + width
    marks = 9 * _noise(rng, (side, side), (0.6, 25)) + 3 * _noise(rng, (side, side), (4, 4))
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-30, 30), 1)
    turned = cv2.warpAffine(marks, turn, (side, side), flags=cv2.INTER_LINEAR)
    top, left = (side - height) // 2, (side - width) // 2
    return (rng.uniform(100, 170) + turned[top : top + height, left : left + width]).astype(np.float32)


def _light(rng: np.random.Generator, size: tuple[int, int]) -> Grey:
    """Uneven light: a slope and a wide bright spot."""
    y, x = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]), indexing="ij")
    slope = rng.uniform(-18, 18) * x + rng.uniform(-10, 10) * y
    centre = rng.uniform(-1, 1, 2)
    spot = rng.uniform(0, 25) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / rng.uniform(0.5, 2))
    return np.asarray(slope + spot, np.float32)


def _place(rng: np.random.Generator, size: tuple[int, int], margin: float) -> NDArray[np.float64]:
    return rng.uniform((margin, margin), (size[0] - margin, size[1] - margin))


def _blob(rng: np.random.Generator, size: tuple[int, int], radius: float) -> Grey:
    """A soft spot of the given radius in pixels, 1 in its centre."""
    y, x = np.ogrid[: size[0], : size[1]]
    centre = _place(rng, size, 2)
    return np.asarray(np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * radius**2)), np.float32)


def _scratch(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Grey, float]:
    """A bent line of 12 to 40 px, 1.5 to 3.5 px wide, and its contrast."""
    length, width = rng.uniform(12, 40), rng.uniform(1.5, 3.5)
    start, angle, bend = _place(rng, size, 22), rng.uniform(0, np.pi), rng.uniform(-0.6, 0.6)
    along = np.linspace(-0.5, 0.5, 24)
    turn = angle + bend * along
    points = start[:, None] + length * along * np.stack([np.sin(turn), np.cos(turn)])
    scale = 8  # drawn larger and shrunk: exact widths below a pixel
    low = np.maximum(np.floor(points.min(axis=1)).astype(int) - 4, 0)
    high = np.minimum(np.ceil(points.max(axis=1)).astype(int) + 5, size)
    canvas = np.zeros(tuple((high - low) * scale), np.uint8)
    line = ((points - low[:, None]) * scale)[::-1].T.round().astype(np.int32)
    cv2.polylines(canvas, [line], False, 255, max(1, round(width * scale)))
    shape = np.zeros(size, np.float32)
    small = cv2.resize(canvas, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    shape[low[0] : high[0], low[1] : high[1]] = small / np.float32(255)
    return shape, rng.uniform(22, 60)


def _pit(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Grey, float]:
    """A small ellipse with a soft border of a pixel, and its contrast."""
    axes = rng.uniform(1.5, 6, 2)
    axes[1] = np.clip(axes[1], 0.6 * axes[0], 1.6 * axes[0])
    return _ellipse(rng, size, axes, 1.0), rng.uniform(25, 60)


def _stain(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Grey, float]:
    """A pale patch with a wide soft border and a ragged outline, and its contrast."""
    axes = rng.uniform(6, 20, 2)
    return _ellipse(rng, size, axes, 4.0, ragged=0.35), rng.uniform(10, 24)


def _ellipse(
    rng: np.random.Generator, size: tuple[int, int], axes: NDArray[np.float64], border: float, ragged: float = 0.0
) -> Grey:
    """Return an ellipse: 1 inside, 0 outside, 0.5 on its outline; `border` px wide."""
    y, x = np.ogrid[: size[0], : size[1]]
    centre, angle = _place(rng, size, float(axes.max())), rng.uniform(0, np.pi)
    dy, dx = y - centre[0], x - centre[1]
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, -np.sin(angle) * dx + np.cos(angle) * dy
    radius = np.hypot(along / axes[0], across / axes[1])
    if ragged:
        radius = radius + ragged * 0.5 * _noise(rng, size, (axes.mean() / 3, axes.mean() / 3))
    distance = (1 - radius) * axes.min()  # px to the outline, about
    return np.asarray(1 / (1 + np.exp(np.clip(-4 * distance / border, -50, 50))), np.float32)
