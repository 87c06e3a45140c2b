"""Colours and words that the page, its charts and its findings share."""

import colorsys
from typing import Any, NamedTuple

import matplotlib
from matplotlib.colors import to_rgb

from wsseg.metrics.errors import KINDS

# Okabe & Ito (2008): colour-blind people can distinguish them, on white and on black
ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#8c8c8c",
)  # fmt: skip
_CLASSES = (ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE)


class ErrorKind(NamedTuple):
    """One kind of wrong pixels: its name in counts (`wsseg.metrics.errors`), its label and its colour."""

    name: str
    label: str
    colour: str


ERRORS = tuple(
    ErrorKind(*values)
    for values in zip(
        KINDS,
        ("missed", "spill over the background", "wrong class", "undecided"),
        (SKY, ORANGE, VERMILION, GREY),
        strict=True,
    )
)


def class_colour(class_id: int) -> list[int]:
    """Return the colour of a class, three values of 0..255; classes after the seventh differ in lightness and in hue."""
    if class_id <= len(_CLASSES):
        return _bytes(to_rgb(_CLASSES[class_id - 1]))
    lightness = (0.42, 0.62, 0.78)[class_id % 3]
    return _bytes(colorsys.hls_to_rgb(class_id * 137.5 / 360 % 1, lightness, 0.6))


def script_data(classes: int) -> dict[str, Any]:
    """Return the colours and words that the page's script needs, for a number of classes."""
    return {
        "classes": [None, *(class_colour(k) for k in range(1, classes + 1))],
        "errors": [{"name": e.name, "label": e.label, "colour": _bytes(to_rgb(e.colour))} for e in ERRORS],
        "heat": [_bytes(colour) for colour in matplotlib.colormaps["viridis"].colors],  # type: ignore[attr-defined]
    }


def _bytes(colour: tuple[float, float, float]) -> list[int]:
    return [round(255 * value) for value in colour]
