"""Labels that are probably wrong: images are described by a network, and heads judge labels that they did not learn from.

A head is a small network that is applied to each place of an image; the evidence of the places is pooled (multiple-instance
learning, Pinheiro & Collobert 2015, "From Image-level to Pixel-level Labeling with Convolutional Networks", equation 2). A
label is doubted by the probability that it is wrong (self-confidence of confident learning, Northcutt et al. 2021, "Confident
Learning: Estimating Uncertainty in Dataset Labels"), for each class of an image.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.models.training import learning_rate_factor
from wsseg.progress import track

Probabilities = NDArray[np.float64]
Labels = NDArray[np.bool_]
_FEWEST = 5  # images with and without a class that a head needs; fewer cannot show what the class looks like
_HIDDEN = 48
_SHARPNESS = 4.0  # of the pooling: 0 is the mean over the places, infinity the maximum
_BATCH = 16
_SEEN = 4000  # images that a training draws at least; images of a small set are drawn several times
_EPOCHS = 2  # at least
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 0.1


class Head(nn.Module):
    """The evidence of each class, pooled over the places of an image.

    Args:
        dimensions: length of a descriptor.
        classes: number of classes, K.
    """

    def __init__(self, dimensions: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dimensions, _HIDDEN)
        self.evidence = nn.Linear(_HIDDEN, classes)

    def forward(self, places: Tensor) -> Tensor:
        """Return logits (N, K) of descriptors (N, P, D)."""
        hidden = F.dropout(self.hidden(places).relu(), 0.2, self.training)
        evidence = self.evidence(hidden) * _SHARPNESS
        pooled: Tensor = (evidence.logsumexp(dim=1) - math.log(places.shape[1])) / _SHARPNESS
        return pooled


def parts(digests: Sequence[str], folds: int, rng_seed: int) -> NDArray[np.int64]:
    """Return the part (N,) of each image, from 0 to `folds` - 1; copies of one file are in the same part.

    Otherwise a head would learn the label of an image from its copy.
    """
    unique, inverse = np.unique(np.array(digests), return_inverse=True)
    order = np.random.default_rng(rng_seed).permutation(len(unique))
    return (order % folds)[inverse]


def held_out_probabilities(
    descriptors: NDArray[np.floating], labels: Labels, part: NDArray[np.int64], rng_seed: int
) -> Probabilities:
    """Return the probability (N, K) of each class in each image, by heads that did not learn from the image's label.

    It is NaN if the other parts have fewer than five images with, or without, the class.

    Args:
        descriptors: (N, P, D).
        labels: (N, K).
        part: (N,) from `parts`.
        rng_seed: seed of the heads' first weights, the order of the images and dropout.
    """
    probabilities = np.full(labels.shape, np.nan)
    numbers = np.unique(part)
    for number in track(numbers, len(numbers), "label doubts", "parts"):
        own, others = np.flatnonzero(part == number), np.flatnonzero(part != number)
        positives = labels[others].sum(axis=0)
        judged = np.flatnonzero(np.minimum(positives, len(others) - positives) >= _FEWEST)
        if len(judged):
            head = _trained(descriptors, labels[:, judged], others, (rng_seed * 1_000_003 + int(number)) % 2**63)
            for start in range(0, len(own), _BATCH):
                rows = own[start : start + _BATCH]
                with torch.inference_mode():
                    probability = head(_places(descriptors, rows)).cpu().double().sigmoid().numpy()
                probabilities[np.ix_(rows, judged)] = probability
    return probabilities


def _trained(descriptors: NDArray[np.floating], labels: Labels, rows: NDArray[np.int64], rng_seed: int) -> Head:
    """Return a head trained on some rows of the descriptors and labels."""
    torch.manual_seed(rng_seed)
    head = Head(descriptors.shape[2], labels.shape[1])
    optimizer = torch.optim.AdamW(head.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    epochs = max(_EPOCHS, math.ceil(_SEEN / len(rows)))
    batches = max(1, len(rows) // _BATCH)
    for epoch in range(epochs):
        order = rows[torch.randperm(len(rows)).numpy()]
        for number in range(batches):
            factor = learning_rate_factor("one_cycle", epoch * batches + number, epochs * batches)
            optimizer.param_groups[0]["lr"] = _LEARNING_RATE * factor
            chosen = order[number * _BATCH : (number + 1) * _BATCH]
            target = torch.from_numpy(labels[chosen]).float()
            loss = F.binary_cross_entropy_with_logits(head(_places(descriptors, chosen)), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return head.eval()


def _places(descriptors: NDArray[np.floating], rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(descriptors[rows]).float()


def doubts(probabilities: Probabilities, labels: Labels) -> Probabilities:
    """Return the probability (N, K) that a label is wrong, as if half of the images showed each class; NaN if not judged.

    Without this correction for the frequency of a class, labels that are missing would hardly ever be found: the
    probability of a rare class rarely exceeds 0.5. Values are in [1e-6, 1 - 1e-6].
    """
    frequency = np.clip(labels.mean(axis=0), 1e-6, 1 - 1e-6)
    odds = probabilities * (1 - frequency)
    shown = np.clip(odds / (odds + (1 - probabilities) * frequency), 1e-6, 1 - 1e-6)
    doubt: Probabilities = np.where(labels, 1 - shown, shown)
    return doubt


def confidently_wrong(probabilities: Probabilities, labels: Labels) -> Labels:
    """Return which labels (N, K) are probably wrong.

    A class that is not labelled is probably there if its probability is at least the mean over the images that are
    labelled with it, and the other way round (Northcutt et al. 2021, equation 2, for the two values of each label). The
    thresholds differ by class, so that a class that is hard to recognise is not doubted throughout.
    """
    wrong = np.zeros(labels.shape, bool)
    for channel in range(labels.shape[1]):
        probability, label = probabilities[:, channel], labels[:, channel]
        judged = ~np.isnan(probability)
        if not (label & judged).any() or not (~label & judged).any():
            continue
        shown, not_shown = probability[label & judged].mean(), probability[~label & judged].mean()
        if shown > not_shown:
            wrong[:, channel] = np.where(label, probability <= not_shown, probability >= shown)
    return wrong


def mean_average_precision(probabilities: Probabilities, labels: Labels) -> float | None:
    """Return the mean average precision over the classes that could be judged, in [0, 1]; None if there are none."""
    judged = [k for k in range(labels.shape[1]) if not np.isnan(probabilities[:, k]).any()]
    values = [float(average_precision_score(labels[:, k], probabilities[:, k])) for k in judged]
    return float(np.mean(values)) if values else None
