"""Metrics of predicted image-level labels."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from wsseg.labels import ClassMap


def classification_metrics(
    logits: NDArray[np.float32], present: NDArray[np.float32], classes: ClassMap
) -> dict[str, object]:
    """Return the metrics of multi-label predictions.

    Args:
        logits: (N, K).
        present: (N, K), 1 if the class is present.
        classes: names of the K classes.

    Returns:
        ``ap``, average precision per class name (None if no image shows the class); ``map``, its mean over the classes that
        occur; ``exact_match``, the fraction of images whose set of classes is correct at probability 0.5; ``images``, N.
        Fractions are in [0, 1].
    """
    ap = {
        name: float(average_precision_score(present[:, c], logits[:, c])) if present[:, c].any() else None
        for c, name in enumerate(classes.names)
    }
    values = [value for value in ap.values() if value is not None]
    return {
        "map": float(np.mean(values)) if values else None,
        "exact_match": float(((logits > 0) == (present > 0)).all(axis=1).mean()),
        "ap": ap,
        "images": len(logits),
    }


def auc_by_class(
    logits: NDArray[np.float32], present: NDArray[np.float32], classes: ClassMap
) -> dict[str, float | None]:
    """Return the area under the ROC curve by class name, which does not depend on how frequent a class is.

    Args:
        logits: (N, K).
        present: (N, K), 1 if the class is present.
        classes: names of the K classes.

    Returns:
        Fractions in [0, 1]; None if all or no items have the class.
    """
    return {
        name: float(roc_auc_score(present[:, c], logits[:, c])) if 0 < present[:, c].sum() < len(present) else None
        for c, name in enumerate(classes.names)
    }
