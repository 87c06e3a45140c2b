"""Paths of masks, confidences, seeds, segments and embeddings in an artifact, by item id."""

from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from wsseg.data.images import LabeledImages
from wsseg.data.masks import decode_mask
from wsseg.errors import ArtifactError
from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.store.artifact import Artifact
from wsseg.types import Mask

PER_IMAGE = (
    "seeds",
    "segments",
    "embeddings",
    "pseudo_masks",
    "predictions",
)  # kinds of artifacts with files per image
MASK_FOLDER = "masks"
CONFIDENCE_FOLDER = "confidence"
SCORE_FOLDER = "scores"
SEED_FOLDER = "seeds"
SEGMENT_FOLDER = "segments"
EMBEDDING_FOLDER = "embeddings"


def mask_path(folder: Path, item_id: str) -> Path:
    """Return the path of an item's mask in the artifact that is written to `folder`."""
    return folder / MASK_FOLDER / f"{item_id}.png"


def confidence_path(folder: Path, item_id: str) -> Path:
    """Return the path of an item's confidence in the artifact that is written to `folder`."""
    return folder / CONFIDENCE_FOLDER / f"{item_id}.png"


def score_path(folder: Path, item_id: str) -> Path:
    """Return the path of a sequence's class probabilities in the artifact that is written to `folder`."""
    return folder / SCORE_FOLDER / f"{item_id}.png"


def seed_path(folder: Path, item_id: str) -> Path:
    """Return the path of an item's seed in the artifact that is written to `folder`."""
    return folder / SEED_FOLDER / f"{item_id}.png"


def segment_path(folder: Path, item_id: str) -> Path:
    """Return the path of an item's segments in the artifact that is written to `folder`."""
    return folder / SEGMENT_FOLDER / f"{item_id}.png"


def embedding_path(folder: Path, item_id: str) -> Path:
    """Return the path of an item's patch embeddings in the artifact that is written to `folder`."""
    return folder / EMBEDDING_FOLDER / f"{item_id}.safetensors"


class ArtifactMasks:
    """The masks of a `pseudo_masks` or `predictions` artifact, by item id."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.key = artifact.key

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 mask of an item; ArtifactError if it cannot be read."""
        try:
            return decode_mask(self.artifact.read_bytes(f"{MASK_FOLDER}/{item_id}.png"))
        except OSError as error:
            raise ArtifactError(f"{self.artifact.folder / MASK_FOLDER / item_id}.png: {error}") from error


def read_vectors(artifact: Artifact, item_id: str) -> NDArray[np.float32]:
    """Return the patch embeddings (h, w, R) of an item, of length 1; ArtifactError if they cannot be read."""
    name = f"{EMBEDDING_FOLDER}/{item_id}.safetensors"
    try:
        vectors = safetensors.numpy.load(artifact.read_bytes(name))["vectors"].astype(np.float32)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{artifact.folder / name}: {error}") from error
    if vectors.ndim != 3:
        raise ArtifactError(f"{artifact.folder / name}: found {vectors.shape}; expected: (h, w, R)")
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-6), np.float32)


def mask_shares(images: LabeledImages, out: Path) -> dict[str, float]:
    """Return the fractions of background pixels and of undecided pixels (255) in the masks below `out`."""
    counts = np.zeros(256, dtype=np.int64)
    for item in images.items:
        counts += np.bincount(decode_mask(mask_path(out, item.id).read_bytes()).ravel(), minlength=256)
    total = counts.sum()
    return {"background": float(counts[BACKGROUND] / total), "undecided": float(counts[IGNORE_INDEX] / total)}
