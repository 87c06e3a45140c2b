"""The scores of a sequence's places in an artifact of seeds or predictions."""

import numpy as np
from numpy.typing import NDArray

from wsseg.data.masks import decode_mask
from wsseg.saliency.seeds import LEVELS, decode_seed
from wsseg.stages.layout import SCORE_FOLDER, SEED_FOLDER
from wsseg.store.artifact import Artifact


def place_scores(artifact: Artifact, item_id: str) -> dict[int, NDArray[np.uint8]]:
    """Return the score (L,) of each place, 0 to 255, by class id; for seeds, of the classes in the labels only."""
    if artifact.kind == "seeds":
        seed = decode_seed(artifact.read_bytes(f"{SEED_FOLDER}/{item_id}.png"))
        levels = np.rint(seed.maps[:, 0] * LEVELS).astype(np.uint8)
        return dict(zip(seed.class_ids, levels, strict=True))
    rows = decode_mask(artifact.read_bytes(f"{SCORE_FOLDER}/{item_id}.png"))
    return dict(enumerate(rows, start=1))
