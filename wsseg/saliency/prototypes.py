"""Maps from local prototypes of classes, which also include non-discriminative features.

Chen & Sun 2023, "Extracting class activation maps from non-discriminative features as well" (LPCAM): the local features of
a class's images are clustered. Clusters with a high probability of the class are prototypes of the class, clusters with a
low one are prototypes of its surroundings (rails under trains, water under boats). The value of a position is its similarity
to the former minus that to the latter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

CLUSTERS = 16  # per class
_SURE, _UNKNOWN = 0.9, 0.5  # probability of the class at a cluster's centre, above and below


@dataclass(frozen=True)
class Prototypes:
    """Prototypes of a class and of its surroundings.

    Args:
        own: (A, F) float32, unit length, at least one.
        surroundings: (B, F) float32, unit length, possibly none.
    """

    own: Tensor
    surroundings: Tensor


def prototypes_of(features: Tensor, head: Tensor, channel: int, rng_seed: int) -> Prototypes:
    """Cluster a class's local features (LPCAM, section 3.2).

    Args:
        features: (P, F) float32, at positions in images of the class.
        head: (K, F) the classifier's weights.
        channel: channel of the class, 0..K - 1.
        rng_seed: seed of the clustering.

    Returns:
        The mean features of the clusters. If no cluster is above the threshold, the most probable one is the class's.
    """
    directions = F.normalize(features, dim=1).numpy()
    count = min(CLUSTERS, len(np.unique(directions, axis=0)))
    labels = KMeans(count, n_init=1, random_state=rng_seed).fit(directions).labels_
    centres = torch.stack([features[torch.from_numpy(labels == c)].mean(0) for c in range(count)])
    logits = centres @ head.T
    # the background has no logit; 0 is the neutral value
    certainty = torch.cat([torch.zeros(count, 1), logits], dim=1).softmax(1)[:, 1 + channel]
    own = certainty > _SURE
    own[certainty.argmax()] = True
    surroundings = (certainty < _UNKNOWN) & ~own
    return Prototypes(F.normalize(centres[own], dim=1), F.normalize(centres[surroundings], dim=1))


def prototype_maps(features: Tensor, prototypes: Sequence[Prototypes]) -> Tensor:
    """Return maps (N, C, h, w) float32, not negative, of features (N, F, h, w) and C classes' prototypes (LPCAM, equation 6).

    The value is the mean cosine similarity to the class's prototypes minus that to its surroundings' prototypes.
    """
    directions = F.normalize(features.float(), dim=1)
    with torch.autocast(features.device.type, enabled=False):
        difference = torch.stack(
            [
                p.own.mean(0) - (p.surroundings.mean(0) if len(p.surroundings) else torch.zeros_like(p.own[0]))
                for p in prototypes
            ]
        ).to(features.device)
        return torch.einsum("cf,nfhw->nchw", difference, directions).relu()
