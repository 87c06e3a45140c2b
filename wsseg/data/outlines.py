"""Outlines of objects in the two formats of COCO, polygons and runs (RLE).

Each number is checked here, before an allocation or C code depends on it: with wrong counts or coordinates, pycocotools
reads beyond its arrays or allocates all memory.
"""

import math
from dataclasses import dataclass
from reprlib import repr  # shortens values in messages
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import extra

SLACK = 0.1  # fraction of the image's side that a polygon may extend beyond the image; the part outside is cut off
_LEAST_SLACK = 2.0  # px
_LONGEST = 100  # times (H + W): length of a polygon's line, because the rasteriser's memory grows with it
_EXPECTED = "expected polygons [[x1, y1, x2, y2, ...], ...] or runs {size: [H, W], counts: ...}"


@dataclass(frozen=True)
class Polygons:
    """Closed polygons, each (P, 2) float64 of finite x, y in px, P >= 3. Their union is one region."""

    parts: tuple[NDArray[np.float64], ...]

    def check(self, size: tuple[int, int]) -> None:
        """Raise ValueError if the polygons cannot be drawn on an image of `size` (H, W)."""
        limits = np.array([size[1], size[0]], dtype=np.float64)  # of x, y
        slack = np.maximum(SLACK * limits, _LEAST_SLACK)
        for points in self.parts:
            low, high = points.min(axis=0), points.max(axis=0)
            if (low < -slack).any() or (high > limits + slack).any():
                raise ValueError(
                    f"its polygon spans x {low[0]:g} to {high[0]:g} and y {low[1]:g} to {high[1]:g}; "
                    f"expected coordinates inside the image of {size[1]} x {size[0]} px (width x height)"
                )
            length = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
            if length > _LONGEST * sum(size):
                raise ValueError(
                    f"its polygon has a line of {length:.0f} px, too long for {size[1]} x {size[0]} px (width x height)"
                )

    def scaled(self, size: tuple[int, int], target: tuple[int, int]) -> "Polygons":
        """Return the polygons on an image of `size` (H, W), scaled to `target` (H, W)."""
        if size == target:
            return self
        factor = np.array([target[1] / size[1], target[0] / size[0]])
        return Polygons(tuple(points * factor for points in self.parts))

    def region(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the (H, W) pixels inside, as pycocotools draws them; raise ValueError as in `check`."""
        with extra("coco", "COCO polygons"):
            from pycocotools import mask as coco_mask

        self.check(size)
        encoded = coco_mask.frPyObjects([points.ravel().tolist() for points in self.parts], *size)
        return np.asarray(coco_mask.decode(coco_mask.merge(encoded)), dtype=bool)


@dataclass(frozen=True)
class Runs:
    """Run lengths, column by column, alternately off and on; `size` is (H, W), and `counts` (int64) sum to H x W."""

    size: tuple[int, int]
    counts: NDArray[np.int64]

    def region(self) -> NDArray[np.bool_]:
        """Return the (H, W) pixels that are on."""
        on = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(on, self.counts).reshape(self.size[::-1]).T


def read_outline(segmentation: Any) -> Polygons | Runs | None:
    """Return the outline of an annotation's ``segmentation``, or None if it has none.

    Points and lines enclose no area and are left out. A segmentation without other parts, or without a pixel, has no outline.

    Raises:
        ValueError: another format, or invalid numbers: not finite, an odd count, negative, or with a wrong sum.
    """
    if segmentation is None:
        return None
    if isinstance(segmentation, list):
        parts = [_points(part) for part in segmentation]
        polygons = tuple(points for points in parts if len(points) >= 3 and np.ptp(points, axis=0).all())
        return Polygons(polygons) if polygons else None
    if isinstance(segmentation, dict):
        runs = _runs(segmentation)
        return runs if runs.counts[1::2].any() else None
    raise ValueError(f"its segmentation is {repr(segmentation)}; {_EXPECTED}")


def read_box(box: Any) -> Polygons | None:
    """Return the rectangle of a ``bbox`` [x, y, width, height], or None if it is not a rectangle with an area."""
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return None
    x, y, width, height = map(float, box)
    if not all(map(math.isfinite, (x, y, width, height, x + width, y + height))) or width <= 0 or height <= 0:
        return None
    right, bottom = x + width, y + height
    return Polygons((np.array([[x, y], [right, y], [right, bottom], [x, bottom]]),))


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _points(part: Any) -> NDArray[np.float64]:
    if not isinstance(part, list):
        raise ValueError(f"its segmentation holds {repr(part)}; {_EXPECTED}")
    for value in part:
        if not _is_number(value) or not math.isfinite(value):
            raise ValueError(f"its polygon holds {repr(value)}; expected finite numbers x1, y1, x2, y2, ...")
    if len(part) % 2:
        raise ValueError(f"its polygon has {len(part)} coordinates; expected an even number, x1, y1, x2, y2, ...")
    return np.array(part, dtype=np.float64).reshape(-1, 2)


def _runs(segmentation: dict[str, Any]) -> Runs:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_whole(n) and n > 0 for n in size):
        raise ValueError(f"its runs have the size {repr(size)}; expected [H, W]")
    if isinstance(counts, str):
        lengths = _decoded(counts)
    elif isinstance(counts, list):
        for value in counts:
            if not _is_whole(value):
                raise ValueError(f"its runs hold {repr(value)}; expected integers")
        lengths = np.array(counts, dtype=np.float64).astype(np.int64)
    else:
        raise ValueError(
            f"its runs have the counts {repr(counts)}; expected a list of numbers, or compressed runs as text"
        )
    height, width = int(size[0]), int(size[1])
    pixels = height * width
    if len(lengths) and (lengths.min() < 0 or lengths.max() > pixels):
        wrong = int(lengths.min()) if lengths.min() < 0 else int(lengths.max())
        raise ValueError(f"its runs hold the length {wrong}; expected 0 to {pixels}")
    if (total := int(lengths.sum())) != pixels:
        raise ValueError(f"its runs cover {total} pixels; expected {height} x {width} = {pixels}")
    return Runs((height, width), lengths)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and float(value).is_integer() and abs(value) < 2**53


def _decoded(text: str) -> NDArray[np.int64]:
    """Return the run lengths of the compressed text format of COCO.

    Each character holds five bits of a number, lowest bits first, and a flag that more follow; the highest bit is the sign.
    From the fourth on, a number is the difference from the number two places before it (rleToString in maskApi.c).
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int64) - 48
    if len(codes) and (codes.min() < 0 or codes.max() > 63):
        raise ValueError("its compressed runs hold a character beyond '0' to 'o'")
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    last = (codes & 0x20) == 0
    if not last[-1]:
        raise ValueError("its compressed runs end within a number")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 8:  # nine groups are 45 bits
        raise ValueError("its compressed runs hold a number of more than 45 bits")
    place = 5 * (np.arange(len(codes)) - np.repeat(starts, ends - starts + 1))
    numbers = np.add.reduceat((codes & 0x1F) << place, starts)
    negative = (codes[ends] & 0x10) != 0
    numbers -= np.where(negative, np.int64(1) << (place[ends] + 5), 0)
    lengths = numbers.copy()
    for first in (1, 2):  # chains of differences: 1, 3, 5, ... and 2, 4, 6, ...
        lengths[first::2] = np.cumsum(numbers[first::2])
    return lengths
