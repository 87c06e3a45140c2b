"""How well image-level labels are predicted."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from wsseg.labels import ClassMap


def classification_metrics(
    logits: NDArray[np.float32], present: NDArray[np.float32], classes: ClassMap
) -> dict[str, object]:
    """Judge multi-label predictions.

    Args:
        logits: (N, K).
        present: (N, K), 1 where the class is present.
        classes: their names.

    Returns:
        ``ap`` per class name (None where no image shows the class), ``map`` (mean over the classes that occur) and
        ``exact_match`` (fraction of images whose set of classes, at probability 0.5, is right); all in [0, 1].
    """
    ap = {
        name: float(average_precision_score(present[:, c], logits[:, c])) if present[:, c].any() else None
        for c, name in enumerate(classes.names)
    }
    known = [value for value in ap.values() if value is not None]
    return {
        "map": float(np.mean(known)) if known else None,
        "exact_match": float(((logits > 0) == (present > 0)).all(axis=1).mean()),
        "ap": ap,
        "images": len(logits),
    }
