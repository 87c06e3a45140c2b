"""Maps from what a class's images have in common, not from what tells classes apart best: local prototypes.

Chen & Sun 2023, "Extracting class activation maps from non-discriminative features as well" (LPCAM): the local features of a class's
images are clustered; clusters that the classifier is sure of are the class, clusters that it does not know are its
surroundings (rails under trains, water under boats), and a place is worth how much closer it is to the ones than to the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

CLUSTERS = 16  # of a class
_SURE, _UNKNOWN = 0.9, 0.5  # probability of the class at a cluster's centre, above and below


@dataclass(frozen=True)
class Prototypes:
    """What a class and its surroundings look like to a network.

    Args:
        own: (A, F) float32, unit length, at least one.
        surroundings: (B, F) likewise, maybe none.
    """

    own: Tensor
    surroundings: Tensor


def prototypes_of(features: Tensor, head: Tensor, channel: int, rng_seed: int) -> Prototypes:
    """Cluster a class's local features (LPCAM, section 3.2).

    Args:
        features: (P, F) float32, of places anywhere in images that show the class.
        head: (K, F) the classifier's weights.
        channel: of the class, 0 .. K - 1.
        rng_seed: source of randomness.

    Returns:
        The clusters' mean features. Where the classifier is sure of none, the likeliest is the class.
    """
    directions = F.normalize(features, dim=1).numpy()
    count = min(CLUSTERS, len(np.unique(directions, axis=0)))
    labels = KMeans(count, n_init=1, random_state=rng_seed).fit(directions).labels_
    centres = torch.stack([features[torch.from_numpy(labels == c)].mean(0) for c in range(count)])
    logits = centres @ head.T
    # the background has no logit of its own: 0 is where the classifier cannot say
    certainty = torch.cat([torch.zeros(count, 1), logits], dim=1).softmax(1)[:, 1 + channel]
    own = certainty > _SURE
    own[certainty.argmax()] = True
    surroundings = (certainty < _UNKNOWN) & ~own
    return Prototypes(F.normalize(centres[own], dim=1), F.normalize(centres[surroundings], dim=1))


def prototype_maps(features: Tensor, prototypes: Sequence[Prototypes]) -> Tensor:
    """Return maps (N, C, h, w) float32, not negative, of features (N, F, h, w) and C classes' prototypes (LPCAM, equation 6).

    Mean cosine similarity to the class's prototypes, less that to its surroundings'.
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
