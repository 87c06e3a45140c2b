"""Class ids, class names, channels and colours, and how they relate."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsseg.errors import ConfigError, nearest
from wsseg.names import refused_character

BACKGROUND = 0
IGNORE_INDEX = 255
MAX_CLASSES = 254  # mask values 1..254: 0 is background, 255 ignore

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def voc_palette() -> NDArray[np.uint8]:
    """Return the palette of the PASCAL VOC devkit, shape (256, 3), uint8 RGB (VOCcolormap.m)."""
    ids = np.arange(256, dtype=np.uint8)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):  # each round takes three bits of the id and assigns them to R, G and B, highest bit first
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit) if 3 * bit + channel < 8 else 0
    return palette


@dataclass(frozen=True)
class ClassMap:
    """The foreground classes in order. The name at index K has class id K + 1, CAM channel K and score channel K + 1.

    Args:
        names: 1 to 254 unique class names, without the background.

    Raises:
        ConfigError: there are no names or too many, or a name is empty, repeated or contains a control character.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise ConfigError(f"classes: found {len(self.names)} names; expected: 1 to {MAX_CLASSES}")
        earlier: set[str] = set()
        for name in self.names:
            if not name.strip():
                raise ConfigError("classes: a class name is empty; name every class")
            if character := refused_character(name):
                raise ConfigError(f"classes: {name!r} cannot be a class name: it contains {character}")
            if name in earlier:
                raise ConfigError(f"classes: {name!r} is listed twice; expected: every class once")
            if name == "background":
                raise ConfigError("classes: 'background' always has class id 0; list only the other classes")
            earlier.add(name)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def with_background(self) -> tuple[str, ...]:
        """Names in the order of class ids 0..K."""
        return ("background", *self.names)

    def id_of(self, name: str) -> int:
        """Return the class id (1..K) of `name`.

        Raises:
            ConfigError: there is no such class; the message suggests the most similar name.
        """
        if name not in self.names:
            raise ConfigError(f"no class {name!r}; expected: {', '.join(self.names)}{nearest(name, self.names)}")
        return self.names.index(name) + 1

    def names_of(self, class_ids: Iterable[int]) -> list[str]:
        """Return the names of class ids (0 is background)."""
        return [self.with_background[i] for i in class_ids]
