"""What lies where in an artifact: masks, confidences and seeds by item id."""

from pathlib import Path

import numpy as np

from wsseg.data.images import LabeledImages
from wsseg.data.masks import decode_mask
from wsseg.errors import ArtifactError
from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.store.artifact import Artifact
from wsseg.types import Mask

MASK_FOLDER = "masks"
CONFIDENCE_FOLDER = "confidence"
SEED_FOLDER = "seeds"


def mask_path(folder: Path, item_id: str) -> Path:
    """Return where an artifact being written below `folder` keeps the mask of an item."""
    return folder / MASK_FOLDER / f"{item_id}.png"


def confidence_path(folder: Path, item_id: str) -> Path:
    """Return where an artifact being written below `folder` keeps how sure a prediction is."""
    return folder / CONFIDENCE_FOLDER / f"{item_id}.png"


def seed_path(folder: Path, item_id: str) -> Path:
    """Return where an artifact being written below `folder` keeps the seed of an item."""
    return folder / SEED_FOLDER / f"{item_id}.png"


class ArtifactMasks:
    """The masks of a `pseudo_masks` or `predictions` artifact, by item id."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.key = artifact.key

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 mask of an item; ArtifactError where there is none."""
        try:
            return decode_mask(self.artifact.read_bytes(f"{MASK_FOLDER}/{item_id}.png"))
        except OSError as error:
            raise ArtifactError(f"{self.artifact.folder / MASK_FOLDER / item_id}.png: {error}") from error


def mask_shares(images: LabeledImages, out: Path) -> dict[str, float]:
    """Return the fractions of pixels that are background, and undecided, of the masks written below `out`."""
    counts = np.zeros(256, dtype=np.int64)
    for item in images.items:
        counts += np.bincount(decode_mask(mask_path(out, item.id).read_bytes()).ravel(), minlength=256)
    total = counts.sum()
    return {"background": float(counts[BACKGROUND] / total), "undecided": float(counts[IGNORE_INDEX] / total)}
