"""Class ids, class names, channels and colours: the one place where they are put in relation."""

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
    for bit in range(8):  # three bits of the id a round, spread over R, G, B from the highest bit down
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit) if 3 * bit + channel < 8 else 0
    return palette


@dataclass(frozen=True)
class ClassMap:
    """The foreground classes in order: name K is class id K + 1, CAM channel K, score channel K + 1.

    Args:
        names: class names, without the background; unique, not empty, at most 254.

    Raises:
        ConfigError: no name, a repeated, empty or control-character name, or too many of them.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise ConfigError(f"classes: found {len(self.names)} names; expected: 1 to {MAX_CLASSES}")
        seen: set[str] = set()
        for name in self.names:
            if not name.strip():
                raise ConfigError("classes: a class name is empty; name every class")
            if character := refused_character(name):
                raise ConfigError(f"classes: {name!r} cannot be a class name: it holds {character}")
            if name in seen:
                raise ConfigError(f"classes: {name!r} stands twice; name every class once")
            if name == "background":
                raise ConfigError("classes: 'background' is class id 0 by itself; name the other classes only")
            seen.add(name)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def with_background(self) -> tuple[str, ...]:
        """Names in the order of class ids 0..K."""
        return ("background", *self.names)

    def id_of(self, name: str) -> int:
        """Return the class id (1..K) of `name`; ConfigError names the nearest known class."""
        if name not in self.names:
            raise ConfigError(f"no class {name!r}; known: {', '.join(self.names)}{nearest(name, self.names)}")
        return self.names.index(name) + 1

    def names_of(self, class_ids: Iterable[int]) -> list[str]:
        """Return the names of class ids (0 is background)."""
        return [self.with_background[i] for i in class_ids]
