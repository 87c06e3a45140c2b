"""The values of an item of a data set: a photograph, or a sequence as an image of height 1."""

from typing import Any

from numpy.typing import NDArray

from wsseg.data.reading import read_photograph
from wsseg.data.sequences import read_sequence
from wsseg.types import LabeledImage, LabeledSequence


def read_item(item: LabeledImage) -> NDArray[Any]:
    """Return (H, W, 3) uint8 for a photograph, (1, L, C) uint8 (letters) or float32 (signals) for a sequence.

    Raises:
        DatasetError: the file cannot be read, or has changed since the data set was listed.
    """
    return read_sequence(item) if isinstance(item, LabeledSequence) else read_photograph(item)
