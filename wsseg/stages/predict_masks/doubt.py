"""How much a network doubts its masks, by image: a table of the images that a person should look at first."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsseg.labels import BACKGROUND
from wsseg.types import Mask

TABLE = "doubt.csv"
_SMALLEST = 0.01  # fraction of the image; doubts about less than that weigh little in an image without any class


class ImageDoubt(NamedTuple):
    """The doubt about one mask.

    Args:
        image_id: the image.
        doubt: expected fraction of wrong pixels in and around the classes, in [0, 1].
        mean_probability: mean over all pixels of the probability of the mask's class.
        class_ids: the classes in the mask, ascending.
    """

    image_id: str
    doubt: float
    mean_probability: float
    class_ids: tuple[int, ...]


def image_doubt(image_id: str, mask: Mask, probability: NDArray[np.float32]) -> ImageDoubt:
    """Return the doubt about a mask, for which every pixel counts as wrong with the probability that its class is not the mask's.

    The doubt is E[errors] / (E[errors] + E[correct foreground] + 1 % of the image): 1 minus the expected IoU of the
    foreground, with a small term that keeps images of sure background at 0. A plain mean over the pixels would hide a doubtful
    small object in a large sure background.

    Args:
        image_id: the image.
        mask: (H, W) uint8 class ids.
        probability: (H, W) float32, probability of the mask's class in [0, 1].
    """
    errors = float((1 - probability).sum(dtype=np.float64))
    correct = float(probability[mask != BACKGROUND].sum(dtype=np.float64))
    class_ids = tuple(int(k) for k in np.unique(mask) if k != BACKGROUND)
    doubt = errors / (errors + correct + _SMALLEST * mask.size)
    return ImageDoubt(image_id, doubt, 1 - errors / mask.size, class_ids)


def most_doubtful(doubts: Iterable[ImageDoubt]) -> list[ImageDoubt]:
    """Return the images by doubt, the highest first; equal doubts by id."""
    return sorted(doubts, key=lambda d: (-d.doubt, d.image_id))


def doubt_table(doubts: Iterable[ImageDoubt], names: Sequence[str]) -> bytes:
    """Return the CSV file of the images by doubt, the highest first.

    Args:
        doubts: the images.
        names: class names by class id, the background first.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "doubt", "mean_probability", "classes"])
    for d in most_doubtful(doubts):
        classes = "|".join(names[k] for k in d.class_ids)
        writer.writerow([d.image_id, f"{d.doubt:.4f}", f"{d.mean_probability:.4f}", classes])
    return text.getvalue().encode()
