"""Frames of photographs: masks and coordinates refer to the stored or to the upright pixels."""

from dataclasses import dataclass

from wsseg.data.file_memory import FileMemory
from wsseg.data.images import LabeledImages
from wsseg.data.orientation import stored_size
from wsseg.data.reading import MOST_PIXELS


@dataclass(frozen=True)
class Photograph:
    """Size and orientation of a photograph.

    Args:
        size: (H, W), upright.
        orientation: EXIF orientation, 1 to 8, that turns the stored pixels upright.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def stored(self) -> tuple[int, int]:
        """(H, W) of the stored pixels."""
        return stored_size(self.size, self.orientation)

    def frame(self, canvas: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """Return the frame that coordinates on a canvas (H, W) refer to: (size, orientation to apply).

        A canvas of the same size wins over one of the same shape, and stored pixels win over upright ones.

        Raises:
            ValueError: the canvas has another shape than the photograph.
        """
        frames = ((self.stored, self.orientation), (self.size, 1))
        for matches in (tuple.__eq__, _proportional):
            for size, orientation in frames:
                if matches(canvas, size):
                    return size, orientation
        raise ValueError(
            f"it is declared as {canvas[1]} x {canvas[0]} px (width x height), its image is {self.size[1]} x {self.size[0]}"
        )


def photographs(images: LabeledImages, memory: FileMemory) -> dict[str, Photograph]:
    """Return the photographs of a split by item id."""
    inspections = memory.inspect([item.path for item in images.items], "reading images")
    return {item.id: Photograph(item.size, inspections[item.path].orientation) for item in images.items}


def _proportional(canvas: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether two sizes (H, W) have the same aspect ratio, up to a pixel of rounding."""
    if canvas[0] * canvas[1] > MOST_PIXELS:  # drawing on it would take too much memory
        return False
    factor = max(size) / max(canvas)
    return all(abs(a * factor - b) <= max(1.0, factor) for a, b in zip(canvas, size, strict=True))
